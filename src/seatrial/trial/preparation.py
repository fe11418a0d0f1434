"""The first half of a trial: artifacts are made, judged on accuracy and timed in this process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np

from seatrial.accuracy.evaluate import Figures
from seatrial.contract import Contract
from seatrial.errors import NotWritable, SeatrialError
from seatrial.gate import Interval, Verdict
from seatrial.trial.candidates import (
    Arrangement,
    Machine,
    TriedModel,
    Variant,
    arrangements,
    default_arrangement,
    dynamic,
    refinements,
)
from seatrial.trial.journal import MadeEntry, RawEntry, ScoreEntry, TrialJournal
from seatrial.trial.time_budget import TimeBudget
from seatrial.trial.verdict import Accuracy, judge_contract

# A service reaches 0.8 to 0.95 of the raw speed of its engine, a slow engine the larger part: one
# with less than this share of the best one's raw speed does not overtake it.
DOMINATED = 0.8
# Seconds that a step is expected to take before the first of its kind was seen.
FIRST_GUESS_S = {"export": 12.0, "int8": 40.0, "score": 10.0, "raw": 6.0}
# INT8 is not made where even so many times the raw speed of its float32 graph is too slow.
MOST_GAIN = 3.0
WORTH = 1.1  # of batches: raw speed over that of one image at a time
LEVEL = 0.95  # of the interval of a difference of AP


class Workshop(Protocol):
    """Makes artifacts, measures them in this process, and starts services of them."""

    def make(self, variant: Variant) -> tuple[str, str]:
        """Make an artifact, or find it in the store.

        Returns:
            Its name and its digest.

        Raises:
            SeatrialError: It cannot be made.
        """

    def score(self, one: Arrangement, artifact: str) -> ScoreEntry:
        """Measure accuracy on the labelled images, in this process.

        Raises:
            SeatrialError: The engine does not run it.
        """

    def raw_speed(self, one: Arrangement, artifact: str) -> RawEntry:
        """Measure the engine alone, in this process.

        Raises:
            SeatrialError: The engine does not run it.
        """

    def serve(self, one: Arrangement, artifact: str) -> AbstractContextManager[str]:
        """A service in processes of its own for as long as the block lasts, as its address.

        Raises:
            SeatrialError: It does not start.
        """


@dataclass
class Prepared:
    """A candidate and all that is known of it before it is served.

    Attributes:
        one: The arrangement.
        artifact: Name of its artifact.
        score: Accuracy; None where it is not judged.
        verdict: Verdict on the clauses of accuracy; None where they are not judged.
        raw: Speed of its engine.
        reason: Why it is not served; empty where it may be.
    """

    one: Arrangement
    artifact: str = ""
    score: ScoreEntry | None = None
    verdict: Verdict | None = None
    raw: RawEntry | None = None
    reason: str = ""

    @property
    def outcome(self) -> str:
        """Outcome of its accuracy; ``holds`` where none is judged."""
        return "holds" if self.verdict is None else self.verdict.outcome


@dataclass
class Preparation:
    """Makes, judges and times candidates, cheapest first, and drops those that cannot win.

    Attributes:
        contract: The contract.
        subjects: The models, the one that was named first first.
        machine: What can run here.
        workshop: Does the work.
        journal: Keeps what was measured.
        budget: The clock.
        say: Called with each step and each reason.
        found: Key -> candidate, in the order in which they were tried.
    """

    contract: Contract
    subjects: tuple[TriedModel, ...]
    machine: Machine
    workshop: Workshop
    journal: TrialJournal
    budget: TimeBudget
    say: Callable[[str], object]
    found: dict[str, Prepared] = field(default_factory=dict)
    _seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def default(self) -> Prepared:
        """The default deployment of the model that was named first."""
        return self.found[default_arrangement(self.subjects[0], self.machine).key]

    def run(self) -> list[Prepared]:
        """Prepare all candidates that there is time for; gives those that may win, best first."""
        first = default_arrangement(self.subjects[0], self.machine)
        self._prepare(first, must=True)
        for one in self._in_order(first):
            self._prepare(one)
        self._drop_slow(self._possible())
        self._refine()
        self._drop_slow(self._possible())
        return self._ranked(self._possible())

    def nearest(self) -> list[Prepared]:
        """Those that were timed, whatever was said of them; the accurate ones first, then fast."""
        rank = {"holds": 0, "undecided": 1, "fails": 2}
        timed = [one for one in self.found.values() if one.raw is not None]
        return sorted(timed, key=lambda one: (rank[one.outcome], -_rate(one)))

    def _in_order(self, first: Arrangement) -> Iterable[Arrangement]:
        """Small canvases first, float32 before INT8, which is only made of what is accurate."""

        def place(one: Arrangement) -> tuple[int, bool, float]:
            height, width = one.variant.size_px
            return height * width, one.variant.int8, one.cost

        every = arrangements(self.subjects, self.machine)
        return sorted((one for one in every if one != first), key=place)

    def _possible(self) -> list[Prepared]:
        return [one for one in self.found.values() if not one.reason and one.raw is not None]

    def _ranked(self, some: list[Prepared]) -> list[Prepared]:
        return sorted(some, key=lambda one: (one.outcome != "holds", -_rate(one)))

    def _prepare(self, one: Arrangement, *, must: bool = False) -> Prepared:
        state = self.found[one.key] = Prepared(one)
        reason = "" if must else self._pointless(one)
        if not reason:
            try:
                reason = self._measure(state, must=must)
            except NotWritable:  # a full disk is no fault of a candidate
                raise
            except SeatrialError as error:
                reason = error.message
        if reason:
            self.drop(state, reason)
        return state

    def _measure(self, state: Prepared, *, must: bool) -> str:
        """Make, judge and time a candidate; gives the reason why it cannot win, or nothing."""
        one = state.one
        wanted_s = self._guess(one)
        if not must and wanted_s and not self.budget.prepared_within(wanted_s):
            return "no time was left to prepare it (--budget)"
        state.artifact, reason = self._made(one.variant), ""
        if self.contract.judges("accuracy"):
            state.score = self._scored(one, state.artifact)
            state.verdict = self._judged(state.score)
            if state.verdict.outcome == "fails":
                failed = [row.text for row in state.verdict.rows if row.outcome == "fails"]
                reason = f"its accuracy fails: {'; '.join(failed)}"
        if reason and not must:
            return reason
        raw = self._timed(one, state.artifact)
        if not raw.reason:
            state.raw = raw
        return reason or raw.reason

    def _pointless(self, one: Arrangement) -> str:
        """Why a candidate need not be tried, by what is known of its neighbours."""
        for other in self.found.values():
            same = msgspec.structs.replace(other.one.variant, size_px=one.variant.size_px)
            alike = (other.one.engine, other.one.precision) == (one.engine, one.precision)
            smaller = _area(other.one.variant) < _area(one.variant)
            if alike and smaller and same == one.variant and other.raw and other.outcome == "holds":
                return (
                    f"{other.one.words} holds the accuracy, and the same with a larger canvas is "
                    "slower"
                )
            parent = one.variant.int8 and alike and other.one.variant == one.variant.floated
            if parent and other.outcome == "fails":
                return (
                    f"the graph that it is made of fails the accuracy ({one.engine}, "
                    f"{one.precision})"
                )
            twin = msgspec.structs.replace(other.one.variant, format=one.variant.format)
            graph = twin == one.variant and not one.variant.int8 and other.one.precision == "f32"
            if graph and other.outcome == "fails":  # an engine does not change what a graph finds
                return f"the same graph fails the accuracy ({other.one.engine}, f32)"
            if parent and other.raw and MOST_GAIN * _rate(other) < DOMINATED * self._fastest_hz():
                return (
                    f"its float32 graph does {_rate(other):.3g} images/s: {MOST_GAIN:g} times as "
                    "many would be too few"
                )
        return ""

    def _fastest_hz(self) -> float:
        """Raw speed of the fastest candidate whose accuracy holds."""
        return max((_rate(one) for one in self.found.values() if one.outcome == "holds"), default=0)

    def _drop_slow(self, some: list[Prepared]) -> None:
        """Drop candidates whose raw speed is below the wanted rate, or far below the best one's."""
        server = self.contract.server
        assert server is not None  # noqa: S101 - the plan has checked
        sound = [one for one in some if one.outcome == "holds"] or some
        best = max(sound, key=_rate, default=None)
        for state in some:
            raw = state.raw
            if raw is None or best is None or best.raw is None:
                continue
            if raw.high_hz < server.rate_per_s:
                self.drop(
                    state,
                    f"its engine alone does {raw.rate_hz:.3g} images/s, fewer than the "
                    f"{server.rate_per_s:g} requests/s that are wanted",
                )
            elif raw.lone_ms > server.at_most_ms:
                self.drop(
                    state,
                    f"one image alone takes its engine {raw.lone_ms:.3g} ms, and at most "
                    f"{server.at_most_ms:g} ms are allowed",
                )
            elif state is not best and raw.high_hz < DOMINATED * best.raw.low_hz:
                self.drop(
                    state,
                    f"its engine does {raw.rate_hz:.3g} images/s, and {best.one.words} "
                    f"{best.raw.rate_hz:.3g}",
                )

    def _refine(self) -> None:
        """Try other divisions of the cores, and batches, of the graphs that may win."""
        ranked = self._ranked(self._possible())[:3]
        for number, state in enumerate(ranked):
            others = refinements(state.one, self.machine)
            if number == 0 and not state.one.variant.dynamic_batch and state.one.variant.format:
                others.append(dynamic(state.one))
            for other in others:
                made = self._prepare(other)
                batched = other.batching.max_batch != 1 and made.raw and state.raw
                if batched and _rate(made) < WORTH * _rate(state):
                    self.drop(made, "an image in a batch takes its engine about as long as alone")

    def _made(self, variant: Variant) -> str:
        kept = self.journal.one(MadeEntry, variant.key)
        if kept is None:
            self.say(f"making {variant.words}")
            begun = self.budget.spent_s
            try:
                name, digest = self.workshop.make(variant)
                kept = MadeEntry(variant.key, name, digest)
            except NotWritable:
                raise
            except SeatrialError as error:
                kept = MadeEntry(variant.key, "", reason=error.message)
            self._note(kept, begun, "int8" if variant.int8 else "export")
        if kept.reason:
            raise SeatrialError(kept.reason)
        return kept.artifact

    def _scored(self, one: Arrangement, artifact: str) -> ScoreEntry:
        kept = self.journal.one(ScoreEntry, one.numerics)
        if kept is None:
            self.say(f"accuracy of {one.variant.words}, {one.engine} {one.precision}")
            begun = self.budget.spent_s
            kept = self.workshop.score(one, artifact)
            self._note(kept, begun, "score")
        return kept

    def _timed(self, one: Arrangement, artifact: str) -> RawEntry:
        kept = self.journal.one(RawEntry, one.key)
        if kept is None:
            self.say(f"raw speed of {one.words}")
            begun = self.budget.spent_s
            try:
                kept = self.workshop.raw_speed(one, artifact)
            except NotWritable:
                raise
            except SeatrialError as error:
                kept = RawEntry(one.key, reason=error.message)
            self._note(kept, begun, "raw")
        return kept

    def _note(self, entry: MadeEntry | ScoreEntry | RawEntry, begun_s: float, kind: str) -> None:
        now = self.budget.spent_s
        self._seconds.setdefault(kind, []).append(now - begun_s)
        self.journal.add(msgspec.structs.replace(entry, seconds=now - begun_s, at_s=now))

    def _judged(self, score: ScoreEntry) -> Verdict:
        drop: tuple[float | None, Interval | None] = (None, None)
        reference = self.journal.one(ScoreEntry, self.default.one.numerics)
        if reference is not None:
            drop = drop_of(reference, score)
        return judge_contract(self.contract, accuracy=accuracy_of(score, *drop))

    def _guess(self, one: Arrangement) -> float:
        """Time that the steps of a candidate are expected to take, without those that are done."""
        kinds = []
        if self.journal.one(MadeEntry, one.variant.key) is None:
            kinds.append("int8" if one.variant.int8 else "export")
        if self.contract.judges("accuracy"):
            kinds += [] if self.journal.one(ScoreEntry, one.numerics) else ["score"]
        kinds += [] if self.journal.one(RawEntry, one.key) else ["raw"]
        return sum(self._usual(kind) for kind in kinds)

    def _usual(self, kind: str) -> float:
        seen = self._seconds.get(kind)
        return max(seen[-3:]) if seen else FIRST_GUESS_S[kind]

    def drop(self, state: Prepared, reason: str) -> None:
        """Note why a candidate is not chosen; the first reason stays."""
        if not state.reason:
            state.reason = reason
            self.say(f"dropped: {state.one.words}: {reason}")


def drop_of(reference: ScoreEntry, score: ScoreEntry) -> tuple[float | None, Interval | None]:
    """Loss of AP against a reference, with its interval: both were given the same draws."""
    before, after = reference.figures.get("ap"), score.figures.get("ap")
    if before is None or after is None or len(reference.drawn_ap) != len(score.drawn_ap):
        return None, None
    if not score.drawn_ap:
        return None, None
    lost = np.asarray(reference.drawn_ap) - np.asarray(score.drawn_ap)
    low, high = np.percentile(lost, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    images = next((one.images for one in score.intervals.values()), None)
    return before - after, Interval(float(low), float(high), LEVEL, images)


def accuracy_of(
    score: ScoreEntry, drop: float | None = None, drop_interval: Interval | None = None
) -> Accuracy:
    """Accuracy from a line of the journal, as it is judged."""
    known = dict.fromkeys(Figures.__struct_fields__) | score.figures
    return Accuracy(Figures(**known), score.intervals, score.flattered, drop, drop_interval)


def median_rounds(rates_hz: list[float]) -> tuple[float, float, float]:
    """Slowest, median and fastest of several rounds."""
    return min(rates_hz), statistics.median(rates_hz), max(rates_hz)


def _rate(one: Prepared) -> float:
    return 0.0 if one.raw is None else one.raw.rate_hz


def _area(variant: Variant) -> int:
    height, width = variant.size_px
    return height * width
