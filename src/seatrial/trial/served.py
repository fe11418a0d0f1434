"""Candidates on a service: the search for their capacity, and the benchmark at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from seatrial.bench.campaign import Trials
from seatrial.bench.options import BenchOptions
from seatrial.bench.report import read_report, write_report
from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import run_benchmark
from seatrial.contract import Contract, ServerClause
from seatrial.errors import NotWritable, SeatrialError
from seatrial.load.images import ImageSet
from seatrial.load.rate_estimate import estimated_hz
from seatrial.load.rate_search import RateGoal, RateSearch, RateTrial, search_rate
from seatrial.load.statistics import PERCENTILES, samples_needed
from seatrial.load.target import Target
from seatrial.progress import Progress, silent
from seatrial.trial.journal import Confirmed, RawEntry, TrialEntry, TrialJournal, TurnEntry
from seatrial.trial.preparation import Prepared, Workshop
from seatrial.trial.race import Capacity
from seatrial.trial.time_budget import ANEW, LONGEST_CONFIRMATION, VERDICT_S, TimeBudget

# A turn of a search is the start of a service and some trials. Time that the start is expected to
# take before one was seen, and the shortest search, seconds.
START_S, SHORTEST_SEARCH_S = 8.0, 8.0
END_S = 1.5  # of a service that is idle
WINDOW_S = 10.0  # shortest window at the wanted rate
SESSIONS = (1, 2, 4)
START = 0.5  # rate of the first trial, as a share of the raw speed
# Follows the key of a candidate in the journal, of what was measured after it was chosen.
AFTERWARDS = "/anew"


@dataclass
class Bench:
    """Measures candidates on services, one up at a time.

    Attributes:
        contract: The contract; it has a clause on the server.
        images: Images that are sent.
        workshop: Starts services.
        journal: Keeps every trial.
        budget: The clock.
        folder: Folder of the reports.
        say: Called with each step.
        on_progress: Called with the progress of measurements.
        benchmark: Measures a service; see `seatrial.bench.run.run_benchmark`.
        starts_s: Time that services took to start, seconds.
        failures: Key -> why the service of a candidate failed at the wanted rate.
    """

    contract: Contract
    images: ImageSet
    workshop: Workshop
    journal: TrialJournal
    budget: TimeBudget
    folder: Path
    say: Callable[[str], object]
    on_progress: Progress = silent
    benchmark: Callable[..., BenchReport] = run_benchmark
    starts_s: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def clause(self) -> ServerClause:
        """The clause on arrivals at a rate."""
        server = self.contract.server
        assert server is not None  # noqa: S101 - the plan has checked
        return server

    @property
    def start_s(self) -> float:
        """Time that the start of a service is expected to take, seconds."""
        return max(self.starts_s[-4:], default=START_S)

    @property
    def shortest_s(self) -> float:
        """Time of the shortest turn, seconds."""
        return self.start_s + SHORTEST_SEARCH_S + END_S

    @property
    def reserve_s(self) -> float:
        """Time that is kept for the benchmark of the choice and for the verdict, seconds."""
        return self._confirmation_s() + self.start_s + END_S + VERDICT_S

    @property
    def anew_s(self) -> float:
        """Time that is kept to measure the capacity of the choice anew; 0 of a short budget."""
        seconds = ANEW * self.budget.whole_s
        return seconds if seconds >= self.shortest_s else 0.0

    def turn(
        self, state: Prepared, seconds: float, *, anew: Capacity | None = None
    ) -> Capacity | None:
        """Search the capacity of a candidate for some seconds more; None where it cannot be served.

        Args:
            state: The candidate.
            seconds: Time of the turn, with the start of its service.
            anew: Its capacity in the race, where none of the trials of that are to count: the
                search begins at it.
        """
        key, begun = _of(state.one.key, anew=anew is not None), self.budget.spent_s
        known = self.trials(key)
        if (last := self.journal.one(TurnEntry, key)) is not None and last.reason:
            return None
        again = "" if anew is None else ", its capacity anew"
        self.say(f"serving {state.one.words} for {seconds:.0f} s{again}")
        start_hz = anew.rate_hz if anew is not None and anew.rate_hz > 0 else _start_hz(state)
        memory, reason = 0, ""
        try:
            with self.workshop.serve(state.one, state.artifact) as url:
                started = self.budget.spent_s - begun
                self.starts_s.append(started)
                budget_s = sum(one.duration_s for one in known) + max(
                    SHORTEST_SEARCH_S / 2, seconds - started - END_S
                )
                report = self.benchmark(
                    Target(url),
                    self._search_options(budget_s),
                    self.on_progress,
                    images=self.images,
                    trials=Trials(
                        known,
                        lambda trial: self._keep(key, trial),
                        start_hz,
                        self._made(state.one.key),
                    ),
                )
            memory = _memory(report)
        except NotWritable:  # a full disk is no fault of a candidate
            raise
        except SeatrialError as error:
            reason = error.message
            self.say(f"{state.one.words}: {reason}")
        now = self.budget.spent_s
        self.journal.add(TurnEntry(key, now - begun, memory, reason, now))
        return None if reason else self.capacity(state.one.key, anew=anew is not None)

    def capacity(self, key: str, *, anew: bool = False) -> Capacity | None:
        """The capacity by all trials so far, or by those since it was chosen; None without any."""
        found = self.search(_of(key, anew=anew))
        if found is None:
            return None
        found_high_hz = found.high_hz if found.bounded else math.inf
        rate_hz, settled = found.rate_hz, found.ended != "budget"
        if not settled:  # an interval that is still open on one side has no middle
            allowed = 1 - PERCENTILES[self.clause.percentile]
            rate_hz = min(max(estimated_hz(found.trials, allowed), found.low_hz), found_high_hz)
        high_hz, raw = found_high_hz, self.journal.one(RawEntry, key)
        if raw is not None and raw.high_hz:  # no service is faster than its engine
            high_hz = min(high_hz, max(raw.high_hz, rate_hz, found.low_hz))
        return Capacity(rate_hz, found.low_hz, high_hz, settled)

    def known(self, keys: Iterable[str]) -> dict[str, tuple[Capacity, float]]:
        """Key -> capacity and time, of those that have had a turn before."""
        found = {}
        for key in keys:
            turns = self.journal.of(TurnEntry, key)
            capacity = self.capacity(key) if turns and not turns[-1].reason else None
            if capacity is not None:
                found[key] = capacity, sum(turn.seconds for turn in turns)
        return found

    def search(self, key: str) -> RateSearch | None:
        """The search by all trials so far; None without any."""
        known = self.trials(key)
        if not known:
            return None
        spent_s = sum(one.duration_s for one in known)
        goal = RateGoal(fraction=PERCENTILES[self.clause.percentile], budget_s=spent_s)
        return search_rate(_never, goal, known=known)

    def trials(self, key: str) -> tuple[RateTrial, ...]:
        """All trials of a candidate that say something: void ones are made again."""
        entries = self.journal.of(TrialEntry, key)
        return tuple(entry.trial for entry in entries if not entry.trial.void)

    def memory_bytes(self, key: str) -> int:
        """Largest resident memory that was seen of a candidate's service; 0: not known."""
        turns = [
            turn for one in (False, True) for turn in self.journal.of(TurnEntry, _of(key, anew=one))
        ]
        return max((one.memory_bytes for one in turns), default=0)

    def is_confirmed(self, state: Prepared, window: int = 1) -> bool:
        """Whether `confirm` has measured a candidate before."""
        return self.journal.one(Confirmed, _window_key(state, window)) is not None

    def confirm(self, state: Prepared, window: int = 1) -> BenchReport | None:
        """Benchmark a candidate by all clauses of the contract on its service.

        The report lies in the folder and is read from there where it was made before; None where
        the service fails.

        Args:
            state: The candidate.
            window: Which of its benchmarks, from 1.
        """
        key = _window_key(state, window)
        kept = self._kept(key)
        # A void window says nothing: it is measured again, as void trials are.
        if kept is not None and not (_is_void(kept) and self.budget.left_s(self.reserve_s) > 0):
            return kept
        self.say(f"confirming {state.one.words} at {self.clause.rate_per_s:g}/s")
        begun = self.budget.spent_s
        try:
            with self.workshop.serve(state.one, state.artifact) as url:
                self.starts_s.append(self.budget.spent_s - begun)
                report = self.benchmark(
                    Target(url), self._confirmation(), self.on_progress, images=self.images
                )
        except NotWritable:
            raise
        except SeatrialError as error:
            self.say(f"{state.one.words}: {error.message}")
            self.failures[state.one.key] = error.message
            return None
        _, data = write_report(report, self.folder / f"served-{key}.html")
        self.journal.add(Confirmed(key, data.name, self.budget.spent_s))
        return report

    def _kept(self, key: str) -> BenchReport | None:
        """The report of a benchmark that was made before; None where it is gone, too."""
        line = self.journal.one(Confirmed, key)
        if line is None:
            return None
        try:
            return read_report(self.folder / Path(line.file).name)
        except SeatrialError as error:
            self.say(f"{error.message}: it is measured again")
            return None

    def _made(self, key: str) -> int:
        """Number of trials that were made of a candidate, the void ones and those anew too."""
        keys = (_of(key, anew=False), _of(key, anew=True))
        return sum(len(self.journal.of(TrialEntry, one)) for one in keys)

    def _keep(self, key: str, trial: RateTrial) -> None:
        self.journal.add(TrialEntry(key, trial, self.budget.spent_s))

    def _search_options(self, search_s: float) -> BenchOptions:
        return BenchOptions(
            images=self.images.summary.folder,
            scenarios=("server",),
            latency_limit_ms=self.clause.at_most_ms,
            percentile=self.clause.percentile,
            arrivals=self.clause.arrivals,
            search_s=search_s,
            warmup_s=0.5,
        )

    def _window_s(self) -> float:
        """Window at the wanted rate: enough for the percentile, where the budget has it."""
        needed = samples_needed(PERCENTILES[self.clause.percentile])
        wanted_s = 1.5 * needed / self.clause.rate_per_s
        return min(max(WINDOW_S, wanted_s), LONGEST_CONFIRMATION * self.budget.whole_s)

    def shortage(self) -> str:
        """Words on a budget whose window at the wanted rate is too short for the percentile."""
        needed = samples_needed(PERCENTILES[self.clause.percentile])
        if self._window_s() * self.clause.rate_per_s >= 1.1 * needed:
            return ""
        enough_s = 1.5 * needed / self.clause.rate_per_s / LONGEST_CONFIRMATION
        return (
            f"{self.clause.percentile} takes {needed} requests, and a window of "
            f"{self._window_s():.0f} s at {self.clause.rate_per_s:g}/s has about "
            f"{self._window_s() * self.clause.rate_per_s:.0f}: the verdict may stay open. "
            f"--budget {math.ceil(enough_s / 60)}m is enough"
        )

    def _confirmation(self) -> BenchOptions:
        """The benchmark of the choice: what the contract has clauses for."""
        names = [("single-stream", "latency"), ("server", "server"), ("scaling", "load")]
        plain = BenchOptions(
            images=self.images.summary.folder,
            scenarios=tuple(name for name, table in names if self.contract.judges(table)),
            rates=(self.clause.rate_per_s,),
            arrivals=self.clause.arrivals,
            server_s=self._window_s(),
            single_stream_s=min(20.0, 0.05 * self.budget.whole_s),
            sessions=SESSIONS,
            point_s=min(5.0, 0.02 * self.budget.whole_s),
            warmup_s=1.0,
        )
        return replace(plain, latency_limit_ms=self.clause.at_most_ms)

    def _confirmation_s(self) -> float:
        options = self._confirmation()
        seconds = 1.0
        for name in options.scenarios:
            if name == "server":
                seconds += 1.0 + self._window_s()
            elif name == "single-stream":
                seconds += 1.0 + (options.single_stream_s or 0.0)
            else:
                seconds += len(SESSIONS) * (1.0 + options.point_s)
        return seconds


def _is_void(report: BenchReport) -> bool:
    return any(point.void for run in report.runs for point in run.points)


def _of(key: str, *, anew: bool) -> str:
    """Key in the journal of the trials of a candidate."""
    return f"{key}{AFTERWARDS}" if anew else key


def _window_key(state: Prepared, window: int) -> str:
    return state.one.key if window == 1 else f"{state.one.key}-{window}"


def _start_hz(state: Prepared) -> float:
    """Rate of the first trial: a part of what the engine does alone."""
    return RateGoal().start_hz if state.raw is None else max(0.5, START * state.raw.rate_hz)


def _never(rate_hz: float, duration_s: float) -> RateTrial:
    """Stands in for a service in a search that has no time left."""
    raise AssertionError("a search without time asked for a trial")


def _memory(report: BenchReport) -> int:
    seen = [
        point.usage.server.rss_peak_bytes
        for run in report.runs
        for point in run.points
        if point.usage.server is not None
    ]
    return max(seen, default=0)
