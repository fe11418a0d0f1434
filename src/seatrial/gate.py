"""One gate for all measurements: clauses and measured values in, a verdict out.

A clause is a limit on one value. A value with an interval holds or fails only where the whole
interval lies on one side of the limit; else it is undecided. So is a value over its limit that
something else spoiled (other load on the machine), and one within it that something flattered
(images that a model was chosen by). The worst row decides the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

Outcome = Literal["holds", "fails", "undecided"]
Direction = Literal["at_most", "at_least"]
DecidedBy = Literal["interval", "value"]
# From the worst to the best: the worst row decides.
OUTCOMES: tuple[Outcome, ...] = ("fails", "undecided", "holds")
WORDS = {"holds": "holds", "fails": "fails", "undecided": "cannot be decided"}
# A measured value this close to its limit: no number of images would tell the two apart.
CLOSEST = 1e-4
# A mean of ones can be 0.9999999999999999: no value is over its limit by less than this share.
ROUNDING = 1e-12


class Clause(msgspec.Struct, frozen=True):
    """A limit on one measured value.

    Attributes:
        metric: Name of the value, for programs: ``accuracy.ap``, ``latency.at_most_ms``.
        limit: Greatest or least value that holds, itself included.
        direction: Whether the limit is the greatest or the least value.
        label: Name of the value in sentences; default: the metric.
        unit: Unit with its space, as it follows a number: ``" ms"``; ``"%"`` for a share of 1.
        decided_by: ``interval``: the whole interval must hold. ``value``: the measured value
            decides and the interval is only shown, for a comparison whose images are the whole
            population and no sample of one.
        missing: Outcome where nothing was measured.
    """

    metric: str
    limit: float
    direction: Direction = "at_most"
    label: str = ""
    unit: str = ""
    decided_by: DecidedBy = "interval"
    missing: Outcome = "undecided"

    @property
    def wanted(self) -> str:
        """The limit in words: ``at most 16 ms``."""
        return f"{self.direction.replace('_', ' ')} {self.shown(self.limit, 'g')}"

    def shown(self, value: float, form: str) -> str:
        """A value in the clause's unit: a share of 1 as a percentage."""
        number = value * 100 if self.unit == "%" else value
        return f"{number:{form}}{self.unit}"


class Interval(msgspec.Struct, frozen=True):
    """Interval of a measured value.

    Attributes:
        low: Lower end; None: the sample gives no lower bound.
        high: Upper end; None: the sample gives no upper bound.
        level: Probability that the interval is made for, for example 0.95.
        images: Number of images that the value was measured on, where its interval narrows with
            the root of that number.
    """

    low: float | None
    high: float | None
    level: float
    images: int | None = None


class Row(msgspec.Struct, frozen=True):
    """One clause, the value that was measured, and the outcome.

    Attributes:
        clause: The limit.
        measured: The value; None where nothing was measured (in JSON also for infinity).
        low: Lower end of its interval; None without one.
        high: Upper end of its interval; None without one.
        level: Level of the interval; None without one.
        outcome: ``undecided`` where the interval lies on both sides of the limit.
        within: Whether the measured value itself is within the limit.
        text: Measured value, interval and limit in words.
        images_needed: About how many images would decide, where more would.
        reason: Why the row is undecided, where that is not the size of the sample.
    """

    clause: Clause
    measured: float | None
    low: float | None
    high: float | None
    level: float | None
    outcome: Outcome
    within: bool
    text: str
    images_needed: int | None = None
    reason: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of all clauses of a gate.

    Attributes:
        outcome: ``fails`` if any row fails; else ``undecided`` if any row is; else ``holds``.
        within: Whether every measured value is within its limit, whatever the intervals.
        statement: The verdict in a sentence or two.
        images_needed: About how many images would decide, where more would.
        rows: One for each clause.
        name: Name of the gate: a contract's, for example.
    """

    outcome: Outcome
    within: bool
    statement: str
    images_needed: int | None = None
    rows: tuple[Row, ...] = ()
    name: str = "the gate"


def rule(
    clause: Clause,
    measured: float | None,
    interval: Interval | None = None,
    *,
    text: str = "",
    spoiled: str = "",
    flattered: str = "",
) -> Row:
    """Compare one measured value with its limit.

    Args:
        clause: The limit.
        measured: The value; infinity is beyond every limit. None or NaN: nothing was measured.
        interval: Interval of the value; without one the value decides.
        text: Words for the row; default: the value, its interval and the limit.
        spoiled: What made the value worse than it is, in words. A value that would fail is then
            undecided; one that holds in spite of it still holds.
        flattered: What made the value better than it is, in words. A value that would hold is then
            undecided; one that fails in spite of it still fails.
    """
    if measured is None or math.isnan(measured):
        return Row(
            clause=clause,
            measured=None,
            low=None,
            high=None,
            level=None,
            outcome=clause.missing,
            within=False,
            text=text or f"{clause.label or clause.metric} was not measured; {clause.wanted}",
            reason=spoiled or flattered,
        )
    ends = Interval(measured, measured, 1.0)
    if interval is not None and clause.decided_by == "interval":
        ends = interval
    if ends.images is not None and ends.images < fewest_images(ends.level):
        fewest = fewest_images(ends.level)
        text = (
            f"{text or _text(clause, measured, None)}; {ends.images} images are too few for "
            f"an interval at {ends.level:.0%}, which takes {fewest}"
        )
        ends = Interval(None, None, ends.level)
    # As distances over the limit: what is positive is beyond it.
    sign = 1.0 if clause.direction == "at_most" else -1.0
    best, worst = (ends.low, ends.high) if sign > 0 else (ends.high, ends.low)
    slack = ROUNDING * max(1.0, abs(clause.limit))
    over = sign * (measured - clause.limit) - slack
    outcome: Outcome = "undecided"
    if best is not None and sign * (best - clause.limit) > slack:
        outcome = "fails"
    elif worst is not None and sign * (worst - clause.limit) <= slack:
        outcome = "holds"
    doubts = [words for words, safe in ((spoiled, "holds"), (flattered, "fails"))
              if words and outcome != safe]  # fmt: skip
    if doubts:
        outcome = "undecided"
    needed = None
    if outcome == "undecided" and not doubts and ends.images is not None:
        end = worst if over <= 0 else best
        needed = None if end is None else _needed(ends.images, abs(over), abs(end - measured))
    return Row(
        clause=clause,
        measured=measured,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=None if interval is None else interval.level,
        outcome=outcome,
        within=over <= 0,
        text=text or _text(clause, measured, interval),
        images_needed=needed,
        reason="; ".join(doubts),
    )


def fewest_images(level: float) -> int:
    """Fewest images on which an interval of a level can exist without assumptions.

    All of n images lie on one side of the true middle with a probability of 2 * 0.5**n: below 6
    images that is more than the 5 % that an interval at 95 % may miss, and what a bootstrap of
    so few draws shows is too narrow (of one image it has no width at all).
    Source: Conover, Practical Nonparametric Statistics, 1999, 3.2 (interval of a quantile).
    """
    return math.ceil(1 - math.log2(1 - level) - 1e-9)


def titled(name: str) -> str:
    """Name of a gate at the beginning of a sentence; that of a contract keeps its letters."""
    return f"The {name.removeprefix('the ')}" if name.startswith("the ") else name


def judge(rows: Iterable[Row], *, name: str = "the gate") -> Verdict:
    """Let the worst row decide.

    Args:
        rows: From `rule`; without any the gate holds.
        name: Name of the gate in the statement.
    """
    rows = tuple(rows)
    found = {row.outcome for row in rows}
    outcome: Outcome = next((one for one in OUTCOMES if one in found), "holds")
    deciding = [row for row in rows if row.outcome == outcome]
    needed = [row.images_needed for row in deciding if row.images_needed is not None]
    statement = f"{titled(name)} {WORDS[outcome]}"
    if deciding:
        statement += f": {'; '.join(row.text for row in deciding)}"
    statement += "."
    if outcome == "undecided":
        statement += "".join(f" {reason}." for reason in reasons(deciding))
        if any(not row.reason for row in deciding):
            statement += " The sample is too small to decide"
            if needed:
                statement += f": about {max(needed):,} images would, if the value stays what it is"
            statement += "."
    return Verdict(
        outcome=outcome,
        within=all(row.within for row in rows),
        statement=statement,
        images_needed=max(needed, default=None),
        rows=rows,
        name=name,
    )


def reasons(rows: Iterable[Row]) -> list[str]:
    """Why rows are undecided, each reason once, as the beginning of a sentence."""
    found = dict.fromkeys(row.reason for row in rows if row.reason)
    return [f"{reason[:1].upper()}{reason[1:]}" for reason in found]


def _text(clause: Clause, measured: float, interval: Interval | None) -> str:
    words = f"{clause.label or clause.metric} {clause.shown(measured, '.4g')}"
    if interval is not None:
        ends = [
            "unbounded" if end is None else f"{end:.4g}" for end in (interval.low, interval.high)
        ]
        on = "" if interval.images is None else f", {interval.images} images"
        words += f" ({interval.level:.0%} interval {ends[0]} to {ends[1]}{on})"
    return f"{words}, {clause.wanted} allowed"


def _needed(images: int, distance: float, reach: float) -> int | None:
    """Images at which the interval would end at the limit: its width falls with their root."""
    if distance < CLOSEST:
        return None
    exact = images * max(1.0, (reach / distance) ** 2)
    return int(float(f"{math.ceil(exact):.1e}"))  # two digits: more would claim to know more
