"""The sentences and the verdict of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from seatrial.bench.compare_options import PER_SECOND
from seatrial.bench.compare_report import CompareReport, Contender, Contrast
from seatrial.bench.compare_statistics import RatioInterval
from seatrial.gate import Clause, Interval, Verdict, judge, rule
from seatrial.report.numbers import counted, duration, noun

OTHER_SHARE = 0.1  # of the cores: more other work makes blocks differ
STEAL_SHARE = 0.05
WAITING_SHARE = 0.02  # of the cores, by services that are not asked


def statements_of(report: CompareReport) -> tuple[str, ...]:
    """One sentence for each service but the first: the answer, and what it rests on."""
    titles = {one.label: one.title for one in report.contenders}
    base = report.contenders[0].title
    return tuple(_statement(report, one, titles[one.label], base) for one in report.deciding)


def _statement(report: CompareReport, one: Contrast, title: str, base: str) -> str:
    found = f"{figure_words(one.figure)} {change(one.ratio)}, {interval_words(one.ratio)}"
    where = "" if report.blocks else " in these two runs"
    margin = plain_percent(report.margin)
    if one.answer == "same":
        return f"{title} is the same as {base}{where} within {margin}: {found}."
    if one.answer != "undecided":
        return f"{title} is {one.answer} than {base}{where}: {found}."
    return (
        f"Undecided whether {title} is faster or slower than {base}{where}, or the same within "
        f"{margin}: {found}. {_what_would_decide(report, one)}"
    )


def _what_would_decide(report: CompareReport, one: Contrast) -> str:
    if report.round_s is None or one.rounds_needed is None:
        return "Two reports do not get nearer: compare the services themselves, in turn."
    time = duration(one.rounds_needed * report.round_s)
    return f"--rounds {one.rounds_needed} would more likely than not decide, in about {time}."


def figure_words(figure: str) -> str:
    """A figure in words: ``throughput``, ``latency p50``."""
    return figure if figure in PER_SECOND else f"latency {figure}"


def change(ratio: RatioInterval) -> str:
    """The difference in per cent: ``+5.1%``."""
    return signed(ratio.ratio)


def interval_words(ratio: RatioInterval) -> str:
    """``95% interval +3.2% to +7.0%``."""
    return f"{plain_percent(ratio.level)} interval {signed(ratio.low)} to {signed(ratio.high)}"


def signed(ratio: float) -> str:
    """A ratio as a difference in per cent, with its sign."""
    value = 100 * (ratio - 1)
    return f"{value:+.0f}%" if abs(value) >= 99.5 else f"{value:+.1f}%"


def plain_percent(share: float) -> str:
    """A share of 1 as it was given: ``5%``, ``2.5%``."""
    return f"{100 * share:.3g}%"


def caveats_of(report: CompareReport) -> tuple[str, ...]:
    """The sentences to read before the figures of a measured comparison are used."""
    return tuple(
        caveat
        for found in (_unfit, _failed, _kept, _waiting, _others, _stolen)
        for caveat in found(report)
    )


def _unfit(report: CompareReport) -> Iterator[str]:
    unfit = {block.round: block.unfit for block in report.blocks if block.unfit}
    if unfit:
        words = counted(len(unfit), "round")
        yield f"{words} left out: {'; '.join(dict.fromkeys(unfit.values()))}."


def _failed(report: CompareReport) -> Iterator[str]:
    for one in report.contenders:
        count = sum(block.failed for block in report.blocks if block.label == one.label)
        if count:
            words = counted(count, "request")
            late = noun(count, "it counts", "they count")
            yield f"{one.label} failed {words}; {late} as being as late as the time limit."


def _kept(report: CompareReport) -> Iterator[str]:
    restart = report.options is not None and report.options.restart
    kept = [one.label for one in report.contenders if not (restart and one.kind == "deployment")]
    if kept:
        were = "was" if len(kept) == 1 else "were"
        yield (
            f"{' and '.join(kept)} {were} not started anew between the rounds: how much a service "
            "differs from start to start is not in the interval."
        )


def _waiting(report: CompareReport) -> Iterator[str]:
    cores = report.environment.cpu.cores
    for one in report.contenders:
        # What others took while this one was measured.
        found = [block.waiting_cores for block in report.blocks if block.label == one.label]
        if found and statistics.median(found) > WAITING_SHARE * cores:
            yield (
                f"While {one.label} was measured, services that were not asked kept "
                f"{statistics.median(found):.2f} of {cores} cores busy."
            )


def _others(report: CompareReport) -> Iterator[str]:
    known = [block.other_cores for block in report.blocks if block.other_cores is not None]
    cores = report.environment.cpu.cores
    if known and statistics.median(known) > OTHER_SHARE * cores:
        yield (
            f"Other work kept {statistics.median(known):.1f} of {cores} cores busy: the interval "
            "is wider than on a quiet machine, and a service that needs more cores suffers more."
        )


def _stolen(report: CompareReport) -> Iterator[str]:
    known = [block.steal_share for block in report.blocks if block.steal_share is not None]
    high = sum(share > STEAL_SHARE for share in known)
    if high:
        yield (
            f"In {high} of {len(known)} blocks the hypervisor took more than "
            f"{plain_percent(STEAL_SHARE)} of the time of the cores."
        )


def verdict_of(report: CompareReport, most_slower: float) -> Verdict:
    """Whether no service is slower than the first by more than a share: a gate for CI.

    It fails where a whole interval is beyond the limit, and holds where each is within it.

    Args:
        report: The comparison.
        most_slower: The limit, a share of 1.
    """
    rows = []
    for one in report.deciding:
        slower = one.slowdown
        clause = Clause(
            f"compare.{one.label}.slower", most_slower, label=f"{one.label} slower by", unit="%"
        )
        ends = Interval(slower.low - 1, slower.high - 1, slower.level)
        found = f"slower by {signed(slower.ratio)}, {interval_words(slower)}"
        text = f"{figure_words(one.figure)}: {found}"
        rows.append(rule(clause, slower.ratio - 1, ends, text=text))
    return judge(rows, name="the limit of --fail-if-slower")


def names_of(contenders: tuple[Contender, ...]) -> str:
    """``A (a.toml), B (b.toml)``."""
    return ", ".join(one.title for one in contenders)
