from __future__ import annotations

import pytest

from seatrial.cli.verdict import leave, show_verdict
from seatrial.gate import Clause, Interval, judge, rule

LATENCY = Clause("latency.at_most_ms", 60.0, label="p90", unit=" ms")
ROWS = {
    "holds": rule(LATENCY, 40.0, Interval(40.0, 50.0, 0.99), text="40.0 ms"),
    "undecided": rule(LATENCY, 50.0, Interval(50.0, 70.0, 0.99), text="50.0 ms"),
    "fails": rule(Clause("load.goodput_per_s", 20.0, "at_least", unit="/s"), 10.0, text="10/s"),
}


def verdict_of(*names):
    return judge([ROWS[name] for name in names], name="gate camera")


@pytest.mark.parametrize(
    ("names", "code"),
    [(("fails",), 8), (("undecided",), 9), (("undecided", "fails", "holds"), 8)],
)
def test_the_exit_code_is_the_verdict(names, code):
    with pytest.raises(SystemExit) as left:
        leave(verdict_of(*names))
    assert left.value.code == code


def test_a_contract_that_holds_or_is_not_there_ends_nothing():
    leave(verdict_of("holds"))
    leave(None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("holds", "gate camera holds"),
        ("fails", "gate camera fails"),
        ("undecided", "gate camera cannot be decided"),
    ],
)
def test_people_get_a_table_on_standard_output_and_the_outcome_on_standard_error(
    capsys, name, words
):
    show_verdict(verdict_of(name), json=False)
    told = capsys.readouterr()
    assert ROWS[name].text in told.out
    assert told.err.strip() == words
    show_verdict(verdict_of(name), json=True)
    assert capsys.readouterr().out == ""


def test_an_undecided_verdict_says_how_many_images_would_decide(capsys):
    row = rule(Clause("accuracy.ap", 0.42, "at_least"), 0.44, Interval(0.4, 0.48, 0.95, 53))
    show_verdict(judge([row], name="gate camera"), json=False)
    told = capsys.readouterr().err.strip()
    assert told == "gate camera cannot be decided: about 210 images would decide"


def test_the_reason_of_an_undecided_verdict_is_named_once(capsys):
    rows = [rule(LATENCY, 80.0, text="80.0 ms", spoiled="others had 34% of the cores")] * 2
    show_verdict(judge(rows, name="gate camera"), json=False)
    assert capsys.readouterr().err.splitlines() == [
        "Others had 34% of the cores.",
        "gate camera cannot be decided",
    ]
