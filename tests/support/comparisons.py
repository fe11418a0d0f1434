"""Comparisons made by hand, from blocks whose figures are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from seatrial.bench.compare_options import CompareOptions
from seatrial.bench.compare_report import (
    Block,
    CompareReport,
    Contender,
    contrasts_of,
    fit_rounds,
    shifts_of,
)
from seatrial.bench.compare_words import caveats_of, statements_of
from seatrial.bench.environment import Environment
from seatrial.load.images import ImagesSummary
from seatrial.system.hardware import Cpu


def build_blocks(
    medians_ms: Mapping[str, Sequence[float]], *, noise: float = 0.0, seed: int = 0
) -> list[Block]:
    """The blocks of rounds: label -> median latency of each round; A B B A in each.

    Args:
        medians_ms: Median latency of a service, one for each round.
        noise: Standard deviation of the logarithm of a block's latency.
        seed: Seed of the noise.
    """
    draw, blocks = np.random.default_rng(seed), []
    labels = list(medians_ms)
    for number in range(len(medians_ms[labels[0]])):
        for place, label in enumerate([*labels, *labels[::-1]], start=1):
            value = medians_ms[label][number] * float(np.exp(draw.normal(0, noise)))
            blocks.append(
                Block(
                    round=number + 1,
                    label=label,
                    place=place,
                    begin_s=6.0 * len(blocks),
                    window_s=5.0,
                    requests=125,
                    failed=0,
                    throughput_per_s=1000 / value,
                    percentiles_ms={"p50": value, "p90": 1.2 * value},
                    deciles_ms=tuple(value * (0.8 + 0.05 * n) for n in range(9)),
                    other_cores=0.1,
                    steal_share=0.0,
                )
            )
    return blocks


def build_comparison(
    images: ImagesSummary,
    blocks: Sequence[Block],
    options: CompareOptions | None = None,
    kinds: Mapping[str, str] | None = None,
) -> CompareReport:
    """A comparison around blocks, with all that is derived from them."""
    options = options or CompareOptions(images="photos", rounds=8)
    rounds = fit_rounds(blocks)
    report = CompareReport(
        created_at="2026-11-20T10:00:00+00:00",
        command="seatrial compare a.toml <b>.toml",
        elapsed_s=240.0,
        load="1 session",
        figure=options.figure,
        margin=options.margin,
        round_s=30.0,
        options=options,
        images=images,
        environment=Environment(
            local=True,
            system="Linux",
            cpu=Cpu("AMD EPYC", 2, 2, None, ()),
            memory_bytes=24 * 2**30,
            affinity=(0, 1),
            processes=(),
            load_1min=0.1,
            versions={"python": "3.11"},
        ),
        contenders=tuple(
            Contender(
                label,
                "a.toml" if label == "A" else f"<{label.lower()}>.toml",
                (kinds or {}).get(label, "deployment"),
                {"model": "tiny", "engine": "openvino"},
                {"name": "tiny", "digest": "12ab"},
            )
            for label in rounds
        ),
        blocks=tuple(blocks),
        contrasts=contrasts_of(rounds, options.figure, options.margin, options.seed),
        shifts=tuple(shifts_of(rounds, options.seed)),
    )
    return msgspec.structs.replace(
        report, statements=statements_of(report), caveats=caveats_of(report)
    )
