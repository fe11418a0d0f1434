"""What came out of a compression, and how."""

from __future__ import annotations

import itertools

import msgspec

from seatrial.accuracy.gate import Verdict
from seatrial.quantise.calibration_images import Skipped
from seatrial.quantise.judge import Finding, Gate

REPORT_FILE = "int8.json"


class Speed(msgspec.Struct, frozen=True):
    """Parent and child by turns on the same cores: the ratio is what counts.

    Attributes:
        parent_hz: Pictures a second in float32, median of the rounds.
        child_hz: The same in INT8.
        ratio: Median over the rounds of child / parent.
        lanes: Pictures inferred side by side, one thread each.
        rounds: Turns.
    """

    parent_hz: float
    child_hz: float
    ratio: float
    lanes: int
    rounds: int


class Candidate(msgspec.Struct, frozen=True):
    """One way of quantising that was tried.

    Attributes:
        recipe: Its name.
        quantised: Number of convolutions in INT8.
        finding: What it does to accuracy.
    """

    recipe: str
    quantised: int
    finding: Finding


class Restored(msgspec.Struct, frozen=True):
    """One layer given back to float, and what that bought.

    Attributes:
        layer: Name of the convolution.
        error: Error at the head's inputs when this layer alone is in INT8, as a share of the
            error with all of them in INT8. Layers are taken by it, largest first.
        finding: With this and all layers before it in float.
        speed: The same.
    """

    layer: str
    error: float
    finding: Finding
    speed: Speed


class QuantiseReport(msgspec.Struct, frozen=True):
    """A compression from start to end.

    Attributes:
        to: ``openvino``, ``onnxruntime`` or ``tensorrt``.
        parent: Name and digest of what was compressed.
        engine: Engine and precision in which parent and child were compared.
        gate: The condition.
        judged_on: The pictures that decided.
        calibration: Pictures that the ranges were taken from: folder, count, seed, digest.
        head: Operators that were kept float from the start.
        candidates: What was tried, in order.
        recipe: What was kept.
        restored: Layers given back to float, in order.
        quantised: Convolutions in INT8 in the end.
        convolutions: Convolutions before the head.
        finding: Of the result.
        verdict: Of the result.
        speed: Of the result; None where this machine cannot run what it is for.
        notes: What else to know.
        skipped: Pictures that could not be used.
    """

    to: str
    parent: dict[str, str]
    engine: dict[str, str]
    gate: Gate
    judged_on: str
    calibration: dict[str, str | int]
    head: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    recipe: str
    restored: tuple[Restored, ...]
    quantised: int
    convolutions: int
    finding: Finding
    verdict: Verdict
    speed: Speed | None
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def bought(self) -> tuple[float, ...]:
        """How much less the metric drops with each restored layer than before it; 0-1."""
        kept = next(one for one in self.candidates if one.recipe == self.recipe)
        drops = [kept.finding.drop, *(one.finding.drop for one in self.restored)]
        return tuple(before - after for before, after in itertools.pairwise(drops))
