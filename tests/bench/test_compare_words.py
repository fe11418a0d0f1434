from __future__ import annotations

import msgspec
import pytest

from comparisons import build_blocks, build_comparison
from seatrial.bench.compare_options import CompareOptions
from seatrial.bench.compare_words import (
    caveats_of,
    names_of,
    plain_percent,
    signed,
    verdict_of,
)
from seatrial.load.images import load_images

NEAR = [0.995, 1.005, 1.0, 0.998, 1.002, 1.001, 0.999, 1.0]


@pytest.fixture
def compared(image_folder):
    """Makes a comparison in which B takes so many times as long: ``compared(1.1)``."""
    images = load_images(image_folder).summary

    def make(factor, *, noise=0.0, options=None, kinds=None, **changes):
        rows = {"A": [40.0] * 8, "B": [40.0 * factor * near for near in NEAR]}
        blocks = [
            msgspec.structs.replace(block, **changes) for block in build_blocks(rows, noise=noise)
        ]
        return build_comparison(images, blocks, options, kinds)

    return make


def test_a_statement_has_the_answer_and_its_interval(compared):
    (slower,) = compared(1.1).statements
    assert slower.startswith(
        "B (<b>.toml) is slower than A (a.toml): latency p50 +10.0%, 95% interval +9."
    )
    (faster,) = compared(0.9).statements
    assert faster.startswith("B (<b>.toml) is faster than A (a.toml): latency p50 -10.0%")
    (same,) = compared(1.0).statements
    assert same.startswith("B (<b>.toml) is the same as A (a.toml) within 5%: latency p50 ")
    options = CompareOptions(images="photos", sessions=4)
    (lower,) = compared(1.25, options=options).statements
    assert lower.startswith("B (<b>.toml) is slower than A (a.toml): throughput -20.0%")


def test_what_is_undecided_says_how_long_would_decide(compared):
    report = compared(1.02, noise=0.08)
    (words,) = report.statements
    needed = report.deciding[0].rounds_needed
    assert words.startswith("Undecided whether B (<b>.toml) is faster or slower than A (a.toml)")
    assert f"--rounds {needed} would more likely than not decide, in about " in words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1.0512, "+5.1%"), (0.9, "-10.0%"), (2.5, "+150%"), (0.01, "-99.0%"), (1.0, "+0.0%")],
)
def test_a_ratio_is_a_difference_with_its_sign(ratio, words):
    assert signed(ratio) == words


def test_a_percentage_is_written_as_it_was_given():
    assert [plain_percent(share) for share in (0.05, 0.025, 0.975)] == ["5%", "2.5%", "97.5%"]


def test_the_names_stand_with_their_labels(compared):
    assert names_of(compared(1.0).contenders) == "A (a.toml), B (<b>.toml)"


def test_a_quiet_comparison_has_no_caveats(compared):
    assert compared(1.0).caveats == ()


def test_each_caveat_is_told(compared):
    def told(**changes):
        return " ".join(compared(1.0, **changes).caveats)

    assert told(other_cores=0.3).startswith("Other work kept 0.3 of 2 cores busy")
    assert told(other_cores=0.2) == ""
    assert told(steal_share=0.06).startswith("In 32 of 32 blocks the hypervisor took more than 5%")
    assert told(steal_share=0.05) == ""
    assert told(waiting_cores=0.05).startswith(
        "While A was measured, services that were not asked kept 0.05 of 2 cores busy. While B "
    )
    assert told(waiting_cores=0.04) == ""
    assert "A failed 16 requests; they count as being as late as the time limit." in told(failed=1)
    assert told(kinds={"B": "service"}).startswith("B was not started anew between the rounds")
    kept = CompareOptions(images="photos", restart=False)
    assert told(options=kept).startswith("A and B were not started anew")
    assert told(other_cores=None, steal_share=None) == ""


def test_rounds_that_were_left_out_are_told_with_the_reason(compared):
    report = compared(1.0)
    blocks = list(report.blocks)
    blocks[4] = msgspec.structs.replace(blocks[4], unfit="the client was late")
    (words,) = caveats_of(msgspec.structs.replace(report, blocks=tuple(blocks)))
    assert words == "1 round left out: the client was late."


@pytest.mark.parametrize(
    ("factor", "noise", "outcome"),
    [(1.1, 0.0, "fails"), (1.02, 0.0, "holds"), (0.8, 0.0, "holds"), (1.05, 0.02, "undecided")],
)
def test_the_limit_of_ci_is_judged_by_the_whole_interval(compared, factor, noise, outcome):
    report = compared(factor, noise=noise)
    verdict = verdict_of(report, 0.05)
    assert verdict.outcome == outcome
    (row,) = verdict.rows
    slower = report.deciding[0].ratio
    assert (row.measured, row.low, row.high) == pytest.approx(
        (slower.ratio - 1, slower.low - 1, slower.high - 1)
    )
    assert row.clause.metric == "compare.B.slower"
    assert row.text.startswith(f"latency p50: slower by {signed(slower.ratio)}, 95% interval")


def test_a_throughput_that_is_lower_is_beyond_the_limit(compared):
    options = CompareOptions(images="photos", sessions=4)
    assert verdict_of(compared(1.25, options=options), 0.05).outcome == "fails"
    assert verdict_of(compared(0.8, options=options), 0.05).outcome == "holds"
