"""The highest rate of arrivals at which a service holds its latency.

The answer is found from counts of late requests, not from percentiles of single windows: a request
that is late or failed is a loss, and 1 - percentile is the share of losses that is allowed. The
idea and the vocabulary are those of MLRsearch (IETF, draft-ietf-bmwg-mlrsearch): short trials far
away, long ones near the answer, verdicts on what all of them have shown.

Near the answer the share of late requests grows with the rate as an exponential does: it does so
exactly in M/M/1, and nearly in other queues. So all trials there say something of one line, the
logarithm of the share over the rate, and its crossing with the allowed share is the answer (see
`loss_line`). Where the share jumps, as at a hidden knee, the interval is what the line says of the
rates below the jump, and the gap in which it lies. In either case it ends at the last rate that
clearly held and the first that clearly did not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from seatrial.load.loss_line import (
    LossLine,
    fit_line,
    loss_verdict,
    usual_dispersion,
    without_stalls,
)
from seatrial.load.rate_estimate import estimated_hz

# Requests of the shortest trial that says something.
FEWEST_REQUESTS = 50
# A trial near the answer lasts until about so many requests may be late, within these parts of the
# time of the search: several trials say more than one long one.
LOSSES_WANTED, SHORT_PART, NEAR_PART = 50.0, 1 / 40, 1 / 12
# Of the time of the search, the longest part that one trial takes.
LONGEST_PART = 0.25
# Void trials after which the search gives up: in a row, or of all.
VOID_IN_A_ROW, VOID_OF_ALL = 5, 20
# Rates near the answer, as logarithms of the share of losses over the allowed one.
STEPS, LONGEST_STEP = (1.2, 0.0, -0.6), 0.25
# From so many allowed losses on a trial says something, even if its verdict is open.
SOLID_LOSSES = 4.0
# Parts into which a trial is taken; in each so many losses over the size of a burst are allowed.
MOST_PARTS, PART_BURSTS = 8, 0.4
# Bursts of losses near the answer, from which on a narrow interval is trusted.
EVENTS = 12.0
# Verdicts and line need the size of bursts, which the line shows: so often in turn, or until it
# changes by less than this (as a logarithm).
PASSES, CONVERGED = 3, 0.1
# Of the requests of a rate, the share that is late plainly, and the fewest of them.
PLAIN, FEWEST_LATE = 0.5, 10
PROBABLE = 2.0  # late requests over those that are allowed, of a rate that probably does not hold
MOST_OPEN = 3  # trials of one rate that stay open, while nothing lies above it
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
        rate_hz: Highest rate that holds, best estimate: by `seatrial.load.rate_estimate` as long as
            no rate clearly held. 0 without a trial.
        low_hz: Lower end of its interval; 0 where no rate was found to hold.
        high_hz: Upper end. Where no rate was found that does not hold, the highest that was tried:
            nothing is known of what lies beyond.
        bounded: Whether a rate was found that does not hold.
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
    bounded: bool = True


@dataclass(frozen=True)
class _Pooled:
    """All valid trials at one rate."""

    rate_hz: float
    offered: int
    bad: float
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
        self._shown = _Shown((), None, None, None)

    def add(self, trial: RateTrial) -> None:
        """Note a trial."""
        self._trials.append(trial)
        self._elapsed_s += trial.duration_s
        self._void += trial.void
        self._void_in_a_row = self._void_in_a_row + 1 if trial.void else 0
        if not trial.void:
            self._shown = _shown(self._trials, self._goal.allowed)

    def following(self) -> tuple[float, float] | None:
        """Rate and duration of the next trial; None at the end."""
        goal = self._goal
        left_s = goal.budget_s - self._elapsed_s
        if self._ended() is not None or left_s < goal.shortest_s:
            return None
        rate_hz, near = self._next_rate()
        seconds = FEWEST_REQUESTS / rate_hz
        if near:
            wanted_s = LOSSES_WANTED / goal.allowed / rate_hz
            wanted_s = min(max(wanted_s, SHORT_PART * goal.budget_s), NEAR_PART * goal.budget_s)
            seconds = max(seconds, wanted_s)
        longest_s = max(goal.shortest_s, LONGEST_PART * goal.budget_s)
        return rate_hz, min(max(goal.shortest_s, seconds), longest_s, left_s)

    def answer(self) -> RateSearch:
        """The answer, as far as the trials have shown it."""
        goal, shown = self._goal, self._shown
        low_hz = shown.good.rate_hz if shown.good else 0.0
        tried_hz = max((trial.rate_hz for trial in self._trials), default=0.0)
        high_hz = shown.bad.rate_hz if shown.bad else tried_hz
        # By all trials, as long as nothing is clear.
        rate_hz = min(max(estimated_hz(self._trials, goal.allowed), low_hz), high_hz)
        found = shown.interval(goal.confidence, goal.allowed)
        if found is not None:
            low_hz, rate_hz, high_hz = found
        ended = self._ended() or "budget"
        if ended == "below-minimum":
            low_hz, rate_hz, high_hz = 0.0, 0.0, goal.low_hz
        elif ended == "above-maximum":
            low_hz = rate_hz = high_hz = goal.high_hz
        bounded = shown.bad is not None and ended != "above-maximum"
        trials = tuple(self._trials)
        return RateSearch(rate_hz, low_hz, high_hz, ended, self._elapsed_s, trials, bounded)

    def _ended(self) -> SearchEnd | None:
        goal, shown = self._goal, self._shown
        if self._void_in_a_row >= VOID_IN_A_ROW or self._void >= VOID_OF_ALL:
            return "void"
        if any(one.verdict == "bad" and one.rate_hz <= goal.low_hz for one in shown.pooled):
            return "below-minimum"
        if any(one.verdict == "good" and one.rate_hz >= goal.high_hz for one in shown.pooled):
            return "above-maximum"
        found = shown.interval(goal.confidence, goal.allowed)
        if found is not None and found[2] - found[0] <= goal.width * found[1]:
            bracket = shown.good is not None and found[0] == shown.good.rate_hz
            if bracket or (shown.line and shown.line.events >= EVENTS):
                return "found"
        return None

    def _next_rate(self) -> tuple[float, bool]:
        """The next rate, and whether it is near the answer: then the trial is a long one."""
        goal, shown = self._goal, self._shown
        if self._trials and self._trials[-1].void:
            return self._trials[-1].rate_hz, False
        if not shown.pooled:
            return min(max(goal.start_hz, goal.low_hz), goal.high_hz), False
        # Where most requests were late, a lower rate is where to look.
        plain = self._plainly_late()
        if plain is not None and (shown.bad is None or plain.rate_hz < shown.bad.rate_hz):
            rate = max(self._between(plain), goal.low_hz)
            return rate, rate > plain.rate_hz / STEP
        if shown.bad is None:
            highest = shown.pooled[-1]
            # A trial too short to show that it holds is no reason to stop the climb. Nor are trials
            # that stay open: more requests come at a higher rate.
            tries = sum(one.rate_hz == highest.rate_hz and not one.void for one in self._trials)
            climbs = highest.bad <= goal.allowed * highest.offered or highest.verdict == "good"
            climbs = climbs or tries >= MOST_OPEN
            rate = highest.rate_hz * STEP if climbs else highest.rate_hz
            return min(rate, goal.high_hz), rate > goal.high_hz or not climbs
        return min(max(self._between(shown.bad), goal.low_hz), goal.high_hz), True

    def _plainly_late(self) -> _Pooled | None:
        """The lowest rate above the one that held at which most requests were late."""
        low_hz = self._shown.good.rate_hz if self._shown.good else 0.0
        late = (
            one
            for one in self._shown.pooled
            if one.rate_hz > low_hz and is_plain(one.bad, one.offered, self._goal.allowed)
        )
        return next(late, None)

    def _probably_bad(self, one: _Pooled) -> bool:
        due = one.offered * self._goal.allowed
        return one.verdict != "good" and due >= SOLID_LOSSES and one.bad > PROBABLE * due

    def _between(self, bad: _Pooled) -> float:
        """A rate below one that did not hold."""
        goal, shown = self._goal, self._shown
        low_hz = shown.good.rate_hz if shown.good else 0.0
        if shown.line is not None:
            crossing, jump_hz = shown.line.crossing(0.5)[1], shown.line.jump_hz
            if shown.line.jump > 0.5 and len(self._trials) % len(STEPS):
                # Halves the gap in which the share jumps.
                wide = jump_hz[1] / jump_hz[0] > 1 + goal.width / 2
                return math.sqrt(jump_hz[0] * jump_hz[1]) if wide else jump_hz[0]
            if low_hz < crossing < bad.rate_hz:
                # In turn above, where losses are many, below, and at the answer itself.
                step = STEPS[len(self._trials) % len(STEPS)] / shown.line.slope
                wanted = crossing * (1 + min(max(step, -LONGEST_STEP), LONGEST_STEP))
                return min(max(wanted, low_hz), bad.rate_hz)
        # Halves the gap below it. What was too short to say anything is no end of a gap; a rate at
        # which more requests were late than may be is its upper end, long before it is clear.
        high = min((one.rate_hz for one in shown.pooled if self._probably_bad(one)), default=0.0)
        if low_hz < high < bad.rate_hz:
            bad = next(one for one in shown.pooled if one.rate_hz == high)
        below = max(low_hz, shown.highest_below(bad, goal.allowed))
        if not below:
            return bad.rate_hz / STEP
        if bad.rate_hz / below > 1 + goal.width / 2:
            return math.sqrt(below * bad.rate_hz)
        return below  # the verdict on it is open: longer


@dataclass(frozen=True)
class _Shown:
    """All trials taken together.

    Attributes:
        pooled: The valid ones, those of one rate together, by rate.
        good: The highest rate that clearly held; see `_bracket`.
        bad: The lowest rate above it that clearly did not.
        line: The line through the trials near the answer.
    """

    pooled: tuple[_Pooled, ...]
    good: _Pooled | None
    bad: _Pooled | None
    line: LossLine | None

    def interval(self, confidence: float, allowed: float) -> tuple[float, float, float] | None:
        """Lower end, estimate and upper end; None as long as nothing bounds it on both sides."""
        if self.bad is None:
            return None
        good_hz, bad_hz = self.good.rate_hz if self.good else 0.0, self.bad.rate_hz
        if self.line is None:
            # Nothing shows how the share grows from one rate to the other: it may jump.
            return (good_hz, math.sqrt(good_hz * bad_hz), bad_hz) if good_hz else None
        low, middle, high = self.line.crossing(confidence)
        if middle >= bad_hz:
            # The trials below show a limit beyond one that did not hold: the share jumps between.
            highest = max(good_hz, self.highest_below(self.bad, allowed))
            low = max(good_hz, min(low, highest))
            return low, max(low, math.sqrt(highest * bad_hz)), bad_hz
        if middle <= good_hz:
            return min(low, good_hz), good_hz, min(max(high, good_hz), bad_hz)
        return max(low, good_hz), middle, min(high, bad_hz)

    def highest_below(self, bad: _Pooled, allowed: float) -> float:
        """Highest rate below one that did not hold, of which enough is known; 0 of none."""
        solid = (
            one.rate_hz
            for one in self.pooled
            if one.rate_hz < bad.rate_hz and one.offered * allowed >= SOLID_LOSSES
        )
        return max(solid, default=0.0)


def _shown(trials: Sequence[RateTrial], allowed: float) -> _Shown:
    """Take trials together: verdicts and line in turn, as each needs the other."""
    valid = [trial for trial in trials if not trial.void and trial.offered]
    # Two trials in which most requests were late: no stall lasts over both, and all in between.
    plain = sorted(trial.rate_hz for trial in valid if is_plain(trial.bad, trial.offered, allowed))
    plain_hz = plain[1] if len(plain) > 1 else math.inf
    rows = [(trial.rate_hz, *part) for trial in valid for part in parts(trial, allowed)]
    dispersion, line = usual_dispersion(allowed), None
    for _ in range(PASSES):
        counted = without_stalls(rows, allowed, dispersion)
        pooled = _pooled(counted, allowed, dispersion, plain_hz)
        good, bad = _bracket(pooled)
        if bad is None:
            break
        middle_hz = math.sqrt(bad.rate_hz * (good.rate_hz if good else bad.rate_hz / STEP))
        line = fit_line(counted, middle_hz, allowed)
        if line is None:
            break
        if abs(math.log(line.dispersion / dispersion)) < CONVERGED:
            break
        dispersion = line.dispersion
    return _Shown(tuple(pooled), good, bad, line)


def _pooled(
    rows: Sequence[tuple[float, int, float]], allowed: float, dispersion: float, plain_hz: float
) -> list[_Pooled]:
    """Parts of trials, those of one rate together, by rate.

    From `plain_hz` on, rates whose verdict is open do not hold.
    """
    by_rate: dict[float, tuple[int, float]] = {}
    for rate_hz, offered, bad in rows:
        before = by_rate.get(rate_hz, (0, 0.0))
        by_rate[rate_hz] = before[0] + offered, before[1] + bad
    found = []
    for rate_hz, (offered, bad) in sorted(by_rate.items()):
        verdict = loss_verdict(offered, bad, allowed, dispersion)
        if verdict == "open" and rate_hz >= plain_hz:
            verdict = "bad"
        found.append(_Pooled(rate_hz, offered, bad, verdict))
    return found


def is_plain(bad: float, offered: int, allowed: float) -> bool:
    """Whether most requests were late, and more than a few."""
    return bad >= FEWEST_LATE and bad >= max(PLAIN, min(3 * allowed, 1.0)) * offered


def parts(trial: RateTrial, allowed: float) -> list[tuple[int, int]]:
    """A trial in up to eight parts: (offered, bad) of each."""
    offered, bad = trial.offered_by_slice, trial.bad_by_slice
    count = min(MOST_PARTS, int(trial.offered * allowed / PART_BURSTS / usual_dispersion(allowed)))
    if count < 2 or len(offered) < 2 or len(offered) != len(bad):
        return [(trial.offered, trial.bad)]
    each = math.ceil(len(offered) / count)
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
