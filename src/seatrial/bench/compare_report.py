"""A comparison as data: blocks, what they say of each figure, and the answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from seatrial import config
from seatrial.bench.compare_options import PER_SECOND, THROUGHPUT, CompareOptions
from seatrial.bench.compare_statistics import (
    DECILES,
    FEWEST_ROUNDS,
    LEVEL,
    Decision,
    RatioInterval,
    answer_of,
    decile_logs,
    hodges_lehmann,
    ratio_interval,
    round_logs,
    rounds_to_decide,
)
from seatrial.bench.environment import Environment
from seatrial.gate import Verdict
from seatrial.load.images import ImagesSummary
from seatrial.load.statistics import PERCENTILES

SCHEMA = "seatrial.compare/1"
FIGURES = (*PERCENTILES, THROUGHPUT)
ContenderKind = Literal["deployment", "service", "report"]


class Contender(msgspec.Struct, frozen=True):
    """One of what is compared.

    Attributes:
        label: ``A`` for the first, which the others are compared with; ``B``, ``C``, ...
        name: The words that the command was given for it.
        kind: Deployment that is started, running service, or report of a benchmark.
        deployment: What was started; None for the other kinds.
        model: Answer of the service about itself; None where it gives none.
    """

    label: str
    name: str
    kind: ContenderKind
    deployment: dict[str, Any] | None = None
    model: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """``A (yolo11n.toml)``."""
        return f"{self.label} ({self.name})"


class Block(msgspec.Struct, frozen=True):
    """One measurement of one service.

    Attributes:
        round: Number of its round, from 1.
        label: Label of the service.
        place: Place in the round, from 1.
        begin_s: Begin of the load, seconds from the begin of the comparison.
        window_s: Length of the measured window.
        requests: Number of requests that count.
        failed: Number of those that failed; they rank as late as the time limit.
        throughput_per_s: Good answers a second.
        percentiles_ms: Percentiles of latency by Harrell and Davis; those that the block has
            requests enough for.
        deciles_ms: The nine deciles; empty in a block of few requests.
        waiting_cores: Cores that the other services of the round kept busy, which are not asked.
        other_cores: Cores that neither this service nor the client kept busy, the other services
            among them; None where it is not known.
        steal_share: Share of the time of the cores that the hypervisor took, 0 to 1.
        unfit: Why the round is left out; empty where it counts.
    """

    round: int
    label: str
    place: int
    begin_s: float
    window_s: float
    requests: int
    failed: int
    throughput_per_s: float
    percentiles_ms: dict[str, float]
    deciles_ms: tuple[float, ...] = ()
    waiting_cores: float = 0.0
    other_cores: float | None = None
    steal_share: float | None = None
    unfit: str = ""

    def value(self, figure: str) -> float | None:
        """The value of a figure; None where the block has none."""
        if figure == THROUGHPUT:
            return self.throughput_per_s or None
        return self.percentiles_ms.get(figure)


class Contrast(msgspec.Struct, frozen=True):
    """One figure of one service against that of the first.

    Attributes:
        label: Label of the service.
        figure: Percentile of latency, throughput, or the highest rate that holds.
        base: Figure of the first service over all rounds: milliseconds, or per second.
        value: Figure of this one.
        ratio: Value over base, and its interval.
        answer: Whether this one is faster or slower.
        rounds: Ratio of each round; empty for reports.
        rounds_needed: Number of rounds with which an answer is more likely than not, where there
            is none yet; None where there is one, and for reports.
    """

    label: str
    figure: str
    base: float
    value: float
    ratio: RatioInterval
    answer: Decision
    rounds: tuple[float, ...] = ()
    rounds_needed: int | None = None

    @property
    def slowdown(self) -> RatioInterval:
        """How many times as slow it is as the first: more than 1 is slower, for every figure."""
        return self.ratio.inverse if self.figure in PER_SECOND else self.ratio


class Shift(msgspec.Struct, frozen=True):
    """The shift function: by how much each decile of latency differs from that of the first.

    Attributes:
        label: Label of the service.
        base_ms: (9,) deciles of the first service, medians of its blocks.
        ratios: (9,) ratios with their intervals, each by itself.
    """

    label: str
    base_ms: tuple[float, ...]
    ratios: tuple[RatioInterval, ...]


class CompareReport(msgspec.Struct, frozen=True, kw_only=True):
    """Two or more services against the first.

    Attributes:
        schema: Name and version of the document: `seatrial.compare/1`.
        created_at: Begin, UTC, ISO 8601.
        command: Command that made the report.
        elapsed_s: Time that it took, starts of services included.
        load: The load in words.
        figure: The figure that decides.
        margin: Share of 1 within which two services count as the same.
        round_s: Time of a round; None for reports.
        options: Options of the measurement; None for reports.
        images: Images that were sent.
        environment: The machine at the begin.
        contenders: The services; the first is what the others are compared with.
        blocks: All measured blocks, in their order.
        contrasts: All figures of all services but the first; that which decides first.
        shifts: Difference of each decile of latency, of each service but the first.
        statements: One sentence for each service but the first.
        caveats: What to know before the figures are used.
        verdict: Whether none is slower than it may be; None where no limit was given.
    """

    schema: str = SCHEMA
    created_at: str
    command: str
    elapsed_s: float
    load: str
    figure: str
    margin: float
    round_s: float | None
    options: CompareOptions | None
    images: ImagesSummary
    environment: Environment
    contenders: tuple[Contender, ...]
    blocks: tuple[Block, ...] = ()
    contrasts: tuple[Contrast, ...]
    shifts: tuple[Shift, ...] = ()
    statements: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @property
    def deciding(self) -> list[Contrast]:
        """The figure that decides, of each service."""
        return [one for one in self.contrasts if one.figure == self.figure]


def read_comparison(path: Path) -> CompareReport:
    """Read the JSON of a comparison back.

    Raises:
        InvalidConfig: The file cannot be read or is no such report.
    """
    hint = "give a compare.json that seatrial compare wrote"
    return config.read_report(path, CompareReport, what="comparison", hint=hint, schema=SCHEMA)


def fit_rounds(blocks: Sequence[Block]) -> dict[str, list[list[Block]]]:
    """For each service its blocks by round, without rounds that have an unfit block."""
    unfit = {block.round for block in blocks if block.unfit}
    found: dict[str, dict[int, list[Block]]] = {}
    for block in blocks:
        if block.round not in unfit:
            found.setdefault(block.label, {}).setdefault(block.round, []).append(block)
    return {label: list(rounds.values()) for label, rounds in found.items()}


def contrasts_of(
    rounds: Mapping[str, Sequence[Sequence[Block]]], figure: str, margin: float, seed: int
) -> tuple[Contrast, ...]:
    """All figures of each service against the first; that which decides comes first.

    Several services share the 5 % that an interval may miss (Bonferroni).

    Args:
        rounds: From `fit_rounds`; the first is the base.
        figure: The figure that decides.
        margin: Share of 1 within which two services count as the same.
        seed: Seed of the bootstrap.
    """
    base, *others = rounds
    level = 1 - (1 - LEVEL) / max(1, len(others))
    names = [figure, *(one for one in FIGURES if one != figure)]
    return tuple(
        made
        for name in names
        for label in others
        if (made := _contrast(label, name, rounds[base], rounds[label], margin, level, seed))
    )


def _contrast(
    label: str,
    figure: str,
    base: Sequence[Sequence[Block]],
    other: Sequence[Sequence[Block]],
    margin: float,
    level: float,
    seed: int,
) -> Contrast | None:
    ours, theirs = _values(base, figure), _values(other, figure)
    if ours is None or theirs is None or len(ours) < FEWEST_ROUNDS:
        return None
    logs = round_logs(ours, theirs)
    ratio = ratio_interval(logs, level=level, seed=seed)
    answer = answer_of(ratio.inverse if figure in PER_SECOND else ratio, margin)
    return Contrast(
        label=label,
        figure=figure,
        base=_middle(ours),
        value=_middle(theirs),
        ratio=ratio,
        answer=answer,
        rounds=tuple(np.exp(logs).tolist()),
        rounds_needed=rounds_to_decide(logs, margin, level=level)
        if answer == "undecided"
        else None,
    )


def _middle(rounds: Sequence[Sequence[float]]) -> float:
    """The estimate of one service, made as that of the ratio is: two medians would not fit it."""
    return math.exp(hodges_lehmann(np.array([np.mean(np.log(row)) for row in rounds])))


def _values(rounds: Sequence[Sequence[Block]], figure: str) -> list[list[float]] | None:
    """The figure of each block; None where one has none."""
    found = [[block.value(figure) for block in blocks] for blocks in rounds]
    known = [[value for value in row if value is not None] for row in found]
    return known if list(map(len, known)) == list(map(len, found)) else None


def shifts_of(rounds: Mapping[str, Sequence[Sequence[Block]]], seed: int) -> Iterator[Shift]:
    """The shift function of each service but the first, where all blocks have deciles."""
    base, *others = rounds
    if not all(block.deciles_ms for rows in rounds.values() for row in rows for block in row):
        return
    deciles = {
        label: [[np.array(block.deciles_ms) for block in row] for row in rows]
        for label, rows in rounds.items()
    }
    middle = np.median([block for row in deciles[base] for block in row], axis=0)
    for label in others:
        logs = decile_logs(deciles[base], deciles[label])
        ratios = tuple(ratio_interval(one, seed=seed) for one in logs)
        yield Shift(label, tuple(middle.tolist()), ratios)


def decile_names() -> list[str]:
    """``10%`` to ``90%``."""
    return [f"{part:.0%}" for part in DECILES]
