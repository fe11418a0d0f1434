"""The highest rate of arrivals at which a service holds its latency.

The answer is found from counts of late requests, not from percentiles of single windows: a request
that is late or failed is a loss, and 1 - percentile is the share of losses that is allowed. The
idea and the vocabulary are those of MLRsearch (IETF, draft-ietf-bmwg-mlrsearch): short trials far
away, long ones near the answer, verdicts on what all of them have shown.

Near the answer the share of late requests grows with the rate as an exponential does: it does so
exactly in M/M/1, and nearly in other queues. So all trials there say something of one line, the
logarithm of the share over the rate, and its crossing with the allowed share is the answer. Losses
come in bursts, so their variance is estimated from parts of trials (quasi-likelihood: McCullagh and
Nelder, Generalized Linear Models, 1989, chapter 9), and the interval of the crossing is Fieller's.
Where the line jumps, as at a hidden knee, no trial lies on it: the interval is then that between
the last trial that clearly held and the first that clearly did not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from seatrial.load.loss_line import LossLine, dispersion_of, fit_line, loss_verdict

# Requests of the shortest trial that says something.
FEWEST_REQUESTS = 50
# A trial near the answer lasts until about so many requests may be late.
LOSSES_WANTED = 50.0
# Of the time of the search, the longest part that one trial takes.
PART_OF_BUDGET = 0.25
# Void trials after which the search gives up: in a row, or of all.
VOID_IN_A_ROW, VOID_OF_ALL = 5, 20
# Rates near the answer: steps in which the share of losses grows by the factor e.
STEPS, LONGEST_STEP = (1.2, 0.0, -0.6), 0.25
# From so many allowed losses on a trial says something, even if its verdict is open.
SOLID_LOSSES = 4.0
# Bursts of losses near the answer, from which on a narrow interval is trusted.
EVENTS = 12.0
STEP = 2.0  # factor of the first steps, upwards and downwards

SearchEnd = Literal["found", "below-minimum", "above-maximum", "budget", "void"]


class RateTrial(msgspec.Struct, frozen=True):
    """One trial: a rate for some time, from an empty service until it is empty again.

    Attributes:
        rate_hz: Rate that was offered, requests per second.
        duration_s: Time that the trial took.
        offered: Requests that counted.
        bad: Those of them that were late, or failed.
        void: Whether it says nothing about the service.
        bad_by_slice: The late and failed ones by the second in which they were due.
        offered_by_slice: All of them by the same.
    """

    rate_hz: float
    duration_s: float
    offered: int
    bad: int
    void: bool = False
    bad_by_slice: tuple[int, ...] = ()
    offered_by_slice: tuple[int, ...] = ()


class RateGoal(msgspec.Struct, frozen=True):
    """The question of a search.

    Attributes:
        fraction: Share of the requests that must be in time: 0.99 for p99.
        low_hz: Lowest rate that is tried.
        high_hz: Highest rate that is tried.
        start_hz: Rate of the first trial.
        width: Width of the interval at which the search ends, as a share of the rate.
        budget_s: Longest time of all trials together.
        confidence: Probability that the interval is made for.
        shortest_s: Length of the shortest trial.
    """

    fraction: float = 0.99
    low_hz: float = 0.1
    high_hz: float = 5000.0
    start_hz: float = 10.0
    width: float = 0.05
    budget_s: float = 180.0
    confidence: float = 0.95
    shortest_s: float = 2.0

    @property
    def allowed(self) -> float:
        """Share of the requests that may be late."""
        return 1.0 - self.fraction


class RateSearch(msgspec.Struct, frozen=True):
    """The answer of a search.

    Attributes:
        rate_hz: Highest rate that holds, best estimate.
        low_hz: Lower end of its interval; 0 where no rate was found to hold.
        high_hz: Upper end; of a service that held all rates the highest that was tried, of which
            nothing is known beyond.
        ended: Why the search ended: `found`, or `budget` with a wider interval; `below-minimum` and
            `above-maximum` where the answer lies outside; `void` where too many trials were.
        elapsed_s: Time of all trials together.
        trials: The trials, in their order.
    """

    rate_hz: float
    low_hz: float
    high_hz: float
    ended: SearchEnd
    elapsed_s: float
    trials: tuple[RateTrial, ...]


@dataclass(frozen=True)
class _Pooled:
    """All valid trials at one rate."""

    rate_hz: float
    offered: int
    bad: int
    seconds: float
    verdict: str  # "good", "bad", "open"


def search_rate(
    measure: Callable[[float, float], RateTrial],
    goal: RateGoal,
    known: Sequence[RateTrial] = (),
    on_trial: Callable[[RateTrial], object] = lambda trial: None,
) -> RateSearch:
    """Search the highest rate at which at most the allowed share of requests is late.

    Args:
        measure: Takes a rate (requests per second) and a duration (seconds), puts that load on the
            service when nothing is under way, and waits until nothing is under way again.
        goal: The question.
        known: Trials of an earlier search with the same goal that was cut off, in their order: they
            are not measured again.
        on_trial: Called with each new trial.
    """
    state = _Search(goal)
    for trial in known:
        state.add(trial)
    while (following := state.following()) is not None:
        trial = measure(*following)
        state.add(trial)
        on_trial(trial)
    return state.answer()


class _Search:
    """The trials so far, and what follows from them."""

    def __init__(self, goal: RateGoal) -> None:
        self._goal = goal
        self._trials: list[RateTrial] = []
        self._elapsed_s = 0.0
        self._void_in_a_row = self._void = 0

    def add(self, trial: RateTrial) -> None:
        """Note a trial."""
        self._trials.append(trial)
        self._elapsed_s += trial.duration_s
        self._void += trial.void
        self._void_in_a_row = self._void_in_a_row + 1 if trial.void else 0

    def following(self) -> tuple[float, float] | None:
        """Rate and duration of the next trial; None at the end."""
        goal = self._goal
        left_s = goal.budget_s - self._elapsed_s
        if self._ended() is not None or left_s < goal.shortest_s:
            return None
        pooled = self._pooled()
        rate_hz, near = self._next_rate(pooled)
        enough = LOSSES_WANTED / goal.allowed if near else FEWEST_REQUESTS
        seconds = max(goal.shortest_s, enough / rate_hz)
        longest_s = max(goal.shortest_s, PART_OF_BUDGET * goal.budget_s)
        return rate_hz, min(seconds, longest_s, left_s)

    def answer(self) -> RateSearch:
        """The answer, as far as the trials have shown it."""
        goal, pooled = self._goal, self._pooled()
        good, bad = _bracket(pooled)
        low_hz = good.rate_hz if good else 0.0
        high_hz = bad.rate_hz if bad else goal.high_hz
        below = [one.rate_hz for one in pooled if one.rate_hz < high_hz]
        highest = max([*below, low_hz, goal.low_hz if bad else 0.0])
        rate_hz = math.sqrt(highest * high_hz) if bad else highest
        found = self._interval(pooled)
        if found is not None:
            low_hz, rate_hz, high_hz = found
        ended = self._ended() or "budget"
        if ended == "below-minimum":
            low_hz, rate_hz, high_hz = 0.0, 0.0, goal.low_hz
        elif ended == "above-maximum":
            low_hz = rate_hz = high_hz = goal.high_hz
        return RateSearch(rate_hz, low_hz, high_hz, ended, self._elapsed_s, tuple(self._trials))

    def _ended(self) -> SearchEnd | None:
        goal, pooled = self._goal, self._pooled()
        if self._void_in_a_row >= VOID_IN_A_ROW or self._void >= VOID_OF_ALL:
            return "void"
        if any(one.verdict == "bad" and one.rate_hz <= goal.low_hz for one in pooled):
            return "below-minimum"
        if any(one.verdict == "good" and one.rate_hz >= goal.high_hz for one in pooled):
            return "above-maximum"
        found = self._interval(pooled)
        if found is not None and found[2] - found[0] <= goal.width * found[1]:
            line = self._line(pooled)
            if found[0] in {one.rate_hz for one in pooled} or (line and line.events >= EVENTS):
                return "found"
        return None

    def _pooled(self) -> list[_Pooled]:
        """Valid trials, those of one rate together, by rate."""
        by_rate: dict[float, list[RateTrial]] = {}
        for trial in self._trials:
            if not trial.void and trial.offered:
                by_rate.setdefault(trial.rate_hz, []).append(trial)
        found = []
        dispersion = dispersion_of(self._rows(), self._goal.allowed)
        for rate_hz, trials in sorted(by_rate.items()):
            offered, bad = sum(t.offered for t in trials), sum(t.bad for t in trials)
            verdict = loss_verdict(offered, bad, self._goal.allowed, dispersion)
            seconds = sum(t.duration_s for t in trials)
            found.append(_Pooled(rate_hz, offered, bad, seconds, verdict))
        return found

    def _rows(self) -> list[tuple[float, int, int]]:
        """Rate, requests and late requests of each part of a valid trial."""
        return [
            (trial.rate_hz, *part)
            for trial in self._trials
            if not trial.void
            for part in parts(trial)
        ]

    def _line(self, pooled: Sequence[_Pooled]) -> LossLine | None:
        """The line through the trials near the answer."""
        good, bad = _bracket(pooled)
        if not bad:
            return None
        middle = math.sqrt(bad.rate_hz * (good.rate_hz if good else bad.rate_hz / STEP))
        return fit_line(self._rows(), middle, self._goal.allowed)

    def _interval(self, pooled: Sequence[_Pooled]) -> tuple[float, float, float] | None:
        """Lower end, estimate and upper end; None as long as there is no bracket."""
        good, bad = _bracket(pooled)
        if not bad:
            return None
        low_hz = good.rate_hz if good else 0.0
        ends = self._crossing(pooled)
        if ends is None or not low_hz < ends[1] < bad.rate_hz:
            # Nothing shows that the share grows evenly from one rate to the other: it may jump.
            return None if not good else (low_hz, math.sqrt(low_hz * bad.rate_hz), bad.rate_hz)
        return max(ends[0], low_hz), ends[1], min(ends[2], bad.rate_hz)

    def _crossing(self, pooled: Sequence[_Pooled]) -> tuple[float, float, float] | None:
        line = self._line(pooled)
        return None if line is None else line.crossing(self._goal.confidence)

    def _next_rate(self, pooled: Sequence[_Pooled]) -> tuple[float, bool]:
        """The next rate, and whether it is near the answer: then the trial is a long one."""
        goal = self._goal
        good, bad = _bracket(pooled)
        if not pooled:
            return min(max(goal.start_hz, goal.low_hz), goal.high_hz), False
        last = next((t for t in reversed(self._trials)), None)
        if last is not None and last.void:
            return last.rate_hz, False
        if bad is None:
            highest = pooled[-1]
            # A trial too short to show that it holds is no reason to stop the climb.
            climbs = highest.bad <= goal.allowed * highest.offered or highest.verdict == "good"
            rate = highest.rate_hz * STEP if climbs else highest.rate_hz
            return min(rate, goal.high_hz), rate > goal.high_hz or not climbs
        return min(max(self._between(pooled, good, bad), goal.low_hz), goal.high_hz), True

    def _between(self, pooled: Sequence[_Pooled], good: _Pooled | None, bad: _Pooled) -> float:
        """A rate below one that did not hold."""
        line = self._line(pooled)
        ends = None if line is None else line.crossing(self._goal.confidence)
        low_hz = good.rate_hz if good else 0.0
        if line is not None and ends is not None and low_hz < ends[1] < bad.rate_hz:
            # In turn above, where losses are many, below, and at the answer itself.
            step = min(LONGEST_STEP, 1.0 / line.slope)  # e times the allowed share
            wanted = ends[1] * (1 + step * STEPS[len(self._trials) % len(STEPS)])
            return min(max(wanted, low_hz), bad.rate_hz)
        # Halves the gap below it. What was too short to say anything is no end of a gap.
        solid = [
            one.rate_hz
            for one in pooled
            if one.rate_hz < bad.rate_hz and one.offered * self._goal.allowed >= SOLID_LOSSES
        ]
        below = max([*solid, low_hz], default=0.0)
        if not below:
            return bad.rate_hz / STEP
        if bad.rate_hz / below > 1 + self._goal.width / 2:
            return math.sqrt(below * bad.rate_hz)
        return below  # the verdict on it is open: longer


def parts(trial: RateTrial) -> list[tuple[int, int]]:
    """A trial in up to eight parts: (offered, bad) of each."""
    offered, bad = trial.offered_by_slice, trial.bad_by_slice
    if len(offered) < 2 or len(offered) != len(bad):
        return [(trial.offered, trial.bad)]
    each = math.ceil(len(offered) / 8)
    return [
        (sum(offered[n : n + each]), sum(bad[n : n + each])) for n in range(0, len(offered), each)
    ]


def _bracket(pooled: Sequence[_Pooled]) -> tuple[_Pooled | None, _Pooled | None]:
    """The highest rate that clearly held, and the lowest above it that clearly did not.

    Where verdicts contradict (a rate that held above one that did not), the ones on more requests
    count.
    """
    clear = [one for one in pooled if one.verdict != "open"]
    best, at = -1.0, 0
    for split in range(len(clear) + 1):
        weight = sum(o.offered for o in clear[:split] if o.verdict == "good")
        weight += sum(o.offered for o in clear[split:] if o.verdict == "bad")
        if weight > best:
            best, at = weight, split
    good = [one for one in clear[:at] if one.verdict == "good"]
    bad = [one for one in clear[at:] if one.verdict == "bad"]
    return (good[-1] if good else None), (bad[0] if bad else None)
