"""The blocks of pages: text stays text, and an empty section is none."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from seatrial.gate import Clause, Interval, judge, rule
from seatrial.report.blocks import (
    clauses,
    facts,
    heading,
    section,
    table,
    tiles,
    unbroken,
    verdict_title,
)
from seatrial.report.svg import element

FAST = rule(Clause("latency", 60.0, label="p90 <latency>", unit=" ms"), 40.0, text="40.0 ms")
OPEN = rule(Clause("ap", 0.42, "at_least", label="AP"), 0.44, Interval(0.4, 0.48, 0.95, 53))
SPOILED = rule(Clause("rate", 20.0, "at_least"), 10.0, text="10/s", spoiled="others were busy")
BAD = rule(Clause("errors", 0.0), 0.5, text="0.5")


def texts(markup: str) -> list[str]:
    return [text for text in ElementTree.fromstring(markup).itertext() if text]


def test_a_verdict_shows_each_clause_its_outcome_and_why_it_is_open() -> None:
    verdict = judge([FAST, OPEN, SPOILED, BAD], name="gate <camera>")
    tree = ElementTree.fromstring(str(clauses(verdict)))
    assert [item.get("class") for item in tree] == ["good", "warn", "warn", "bad"]
    assert [list(item.itertext()) for item in tree] == [
        ["p90 <latency> at most 60 ms", "holds", "40.0 ms"],
        ["AP at least 0.42", "undecided", OPEN.text,
         "About 210 images would decide, if the value stays."],
        ["rate at least 20", "undecided", "10/s", "Others were busy."],
        ["errors at most 0", "fails", "0.5"],
    ]  # fmt: skip
    assert verdict_title(verdict) == "gate <camera> fails"
    assert verdict_title(judge([BAD])) == "The gate fails"


def test_no_line_ends_inside_the_name_of_an_option() -> None:
    words = "Give more time (--point-s 30), not -5 or a--b <x>; --no-json"
    assert unbroken(words) == (
        'Give more time (<span class="option">--point-s</span> 30), not -5 or a--b &lt;x&gt;; '
        '<span class="option">--no-json</span>'
    )
    for made in (facts([("a", "--to onnx")]), section("t", "b", lead="--to onnx")):
        assert '<span class="option">--to</span> onnx' in made


def test_a_section_without_content_is_left_out() -> None:
    assert section("Title", "", lead="about it") == ""
    assert section("<T>", element("p", "body"), lead="a < b") == (
        '<h2>&lt;T&gt;</h2><p class="lead">a &lt; b</p><p>body</p>'
    )


def test_names_stand_before_their_values() -> None:
    assert texts(str(tiles([("AP", "0.44", "IoU 0.5")]))) == ["AP", "0.44", "IoU 0.5"]
    assert str(tiles([("AP", "0.44", "IoU 0.5")])).startswith('<dl class="tiles card"><div><dt>AP<')
    assert "<dt>cpu</dt><dd>AMD</dd>" in facts([("cpu", "AMD")])
    assert texts(str(table(("a", "b"), [("1", "2")]))) == ["a", "b", "1", "2"]


def test_text_in_blocks_is_escaped() -> None:
    bad = "<script>"
    made = [
        heading(bad, bad, bad, ""),
        tiles([(bad, bad, bad)]),
        table((bad,), [(bad,)]),
        facts([(bad, bad)]),
    ]
    assert [texts(str(one)).count(bad) for one in made] == [3, 3, 2, 2]
    assert all(bad not in str(one) for one in made)


def test_rows_stand_out_by_number_and_words_stand_left() -> None:
    made = str(table(("a", "b"), [("1", "2"), ("3", "4")], [1], words=True))
    rows = ElementTree.fromstring(made).findall("./table/tbody/tr")
    assert [row.get("class") for row in rows] == [None, "knee-row"]
    assert 'table class="words"' in made
    assert "words" not in str(table(("a",), [("1",)]))
