"""How often `seatrial compare` is right, on simulated services and a simulated clock.

python benchmarks/compare_power.py [--repetitions 400] [--rounds 8]

A machine whose speed wanders (an autoregressive process with a memory of a minute, and a slope of
its own in every comparison), services that are up to 1 % faster or slower at each start, requests
with log-normal latencies, and one request in a thousand that is stalled. ``called different``: the
answer is faster or slower. `
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seatrial.bench.compare_statistics import (
    answer_of,
    harrell_davis,
    ratio_interval,
    round_logs,
    rounds_to_decide,
)

MARGIN = 0.05
TRUE = (0.0, 0.01, 0.02, 0.05, 0.1)
MOST_ROUNDS = 400  # until which an undecided comparison goes on


@dataclass(frozen=True)
class Machine:
    """A simulated machine and two services on it.

    Attributes:
        slower: Share by which B is slower than A: 0.05.
        wander: Standard deviation of the logarithm of the machine's speed.
        memory_s: Time in which the speed forgets itself.
        slope: Standard deviation of the slope of its logarithm over ten minutes.
        start: Standard deviation of the logarithm of a service's speed over its starts.
        spread: Standard deviation of the logarithm of the latency of a request.
        stalled: Share of requests that are stalled.
        median_s: Median latency.
        block_s: Measured time of a block.
        pause_s: Warm-up before it.
        start_s: Time in which all services start, before each round.
    """

    slower: float = 0.0
    wander: float = 0.03
    memory_s: float = 60.0
    slope: float = 0.05
    start: float = 0.01
    spread: float = 0.15
    stalled: float = 0.001
    median_s: float = 0.04
    block_s: float = 5.0
    pause_s: float = 1.0
    start_s: float = 8.0

    def rounds(self, draw: np.random.Generator, fraction: float) -> Iterator[float]:
        """The logarithms of ratios of rounds, without an end."""
        clock_s, speed = 0.0, draw.normal(0, self.wander)
        slope = draw.normal(0, self.slope) / 600
        while True:
            starts = draw.normal(0, self.start, 2) + np.array([0.0, math.log1p(self.slower)])
            blocks: list[list[float]] = [[], []]
            clock_s += self.start_s
            speed = self._later(draw, speed, self.start_s)
            for side in (0, 1, 1, 0):
                passed_s = self.pause_s + self.block_s
                clock_s += passed_s
                speed = self._later(draw, speed, passed_s)
                level = math.log(self.median_s) + starts[side] + speed + slope * clock_s
                blocks[side].append(self._block(draw, level, fraction))
            yield float(round_logs([blocks[0]], [blocks[1]])[0])

    def _later(self, draw: np.random.Generator, speed: float, passed_s: float) -> float:
        keeps = math.exp(-passed_s / self.memory_s)
        return speed * keeps + draw.normal(0, self.wander * math.sqrt(1 - keeps**2))

    def _block(self, draw: np.random.Generator, level: float, fraction: float) -> float:
        """The percentile of a block of requests that follow one another."""
        count = round(self.block_s / math.exp(level))
        latencies = np.exp(level + draw.normal(0, self.spread, count))
        latencies[draw.random(count) < self.stalled] += 0.2
        return float(harrell_davis(latencies, [fraction])[0])


# As the virtual machine is on which this was written, and one that shares its cores with others.
MACHINES = {"calm": Machine(), "noisy": Machine(wander=0.08, memory_s=20.0, start=0.02)}


def simulate(
    machine: Machine, rounds: int, repetitions: int, fraction: float = 0.5
) -> dict[str, Any]:
    """Answers over many comparisons, and what was foretold where there was none."""
    answers: Counter[str] = Counter()
    covered, widths = 0, []
    foretold: list[tuple[int, int, bool]] = []
    for number in range(repetitions):
        draw = np.random.default_rng([number, round(1e4 * machine.slower)])
        coming = machine.rounds(draw, fraction)
        logs = np.array([next(coming) for _ in range(rounds)])
        found = ratio_interval(logs, seed=number)
        answer = answer_of(found, MARGIN)
        answers[answer] += 1
        covered += found.low <= 1 + machine.slower <= found.high
        widths.append(math.log(found.high / found.low) / 2)
        if answer == "undecided" and len(foretold) < 60:
            foretold.append(go_on(logs, coming, number))
    ratios = [said / took for said, took, _ in foretold]
    to_come = [(said - rounds) / (took - rounds) for said, took, _ in foretold]
    return {
        "truly slower": machine.slower,
        "rounds": rounds,
        "minutes": round(
            rounds * (machine.start_s + 4 * (machine.pause_s + machine.block_s)) / 60, 1
        ),
        "called different, %": share(answers["faster"] + answers["slower"], repetitions),
        "called faster, %": share(answers["faster"], repetitions),
        "called the same, %": share(answers["same"], repetitions),
        "undecided, %": share(answers["undecided"], repetitions),
        "interval holds the truth, %": share(covered, repetitions),
        "half of its width, %": round(100 * float(np.median(widths)), 2),
        "foretold over needed": middle(ratios),
        "within a factor of 2, %": share(sum(0.5 <= one <= 2 for one in ratios), len(ratios)),
        "to come": middle(to_come),
        "to come within a factor of 2, %": share(
            sum(0.5 <= one <= 2 for one in to_come), len(to_come)
        ),
        "decided at that number, %": share(sum(one[2] for one in foretold), len(foretold)),
    }


def go_on(logs: np.ndarray, coming: Iterator[float], seed: int) -> tuple[int, int, bool]:
    """Rounds foretold, rounds that decided, and whether as many as foretold did."""
    said = min(rounds_to_decide(logs, MARGIN), MOST_ROUNDS)
    took, then = 0, False
    while len(logs) < MOST_ROUNDS and (not took or len(logs) < said):
        logs = np.append(logs, next(coming))
        if took and len(logs) != said:
            continue
        found = answer_of(ratio_interval(logs, seed=seed), MARGIN) != "undecided"
        took = took or (len(logs) if found else 0)
        then = found if len(logs) == said else then
    return said, took or MOST_ROUNDS, then


def middle(values: list[float]) -> float | None:
    """The median, rounded."""
    return round(float(np.median(values)), 2) if values else None


def share(count: int, whole: int) -> float | None:
    """A share in per cent."""
    return round(100 * count / whole, 1) if whole else None


def main() -> None:
    """Simulate, and print a line for each true difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    for name, plain in MACHINES.items():
        for slower in TRUE:
            machine = replace(plain, slower=slower)
            found = simulate(machine, options.rounds, options.repetitions)
            print(json.dumps({"machine": name, **found}), flush=True)


if __name__ == "__main__":
    main()
