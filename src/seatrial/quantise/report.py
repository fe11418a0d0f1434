"""The report of a compression, `int8.json`."""

from __future__ import annotations

import itertools

import msgspec

from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import Loss
from seatrial.conditions import Conditions
from seatrial.gate import Verdict
from seatrial.quantise.calibration_images import Skipped

REPORT_FILE = "int8.json"


class Speed(msgspec.Struct, frozen=True):
    """Throughput of parent and child, measured in turns on the same cores.

    Older reports have the median of each rate, so that their ratio may be another one.

    Attributes:
        parent_hz: Images per second in float32, in the round with the median ratio.
        child_hz: Images per second in INT8, in that round.
        ratio: Median over the rounds of child / parent.
        lanes: Number of images inferred side by side, one thread each.
        rounds: Number of turns.
    """

    parent_hz: float
    child_hz: float
    ratio: float
    lanes: int
    rounds: int


class Candidate(msgspec.Struct, frozen=True):
    """One way of quantising that was tried.

    Attributes:
        recipe: Name of the way.
        quantised: Number of convolutions in INT8.
        finding: What it loses.
    """

    recipe: str
    quantised: int
    finding: Loss


class Restored(msgspec.Struct, frozen=True):
    """One layer given back to float, and what is lost then.

    Attributes:
        layer: Name of the convolution.
        error: Error at the head's inputs when this layer alone is in INT8, as a share of the
            error with all of them in INT8. Layers are taken by it, largest first.
        finding: What is lost with this and all layers before it in float.
        speed: Speed with this and all layers before it in float.
    """

    layer: str
    error: float
    finding: Loss
    speed: Speed


class QuantiseReport(msgspec.Struct, frozen=True):
    """A compression from start to end.

    Attributes:
        to: ``openvino``, ``onnxruntime`` or ``tensorrt``.
        parent: Name and digest of the artifact that was compressed.
        engine: Engine and precision in which parent and child were compared.
        gate: What the result may lose.
        judged_on: The images that decided.
        calibration: Images that the ranges were taken from: folder, count, seed, digest.
        head: Operators that were kept float from the start.
        candidates: Ways of quantising that were tried, in order.
        recipe: Name of the way that was kept.
        restored: Layers given back to float, in order.
        quantised: Number of convolutions in INT8 in the end.
        convolutions: Number of convolutions before the head.
        finding: What the result loses.
        verdict: Verdict on that loss.
        speed: Speed of the result; None where this machine cannot run what it is for.
        notes: Remarks on the figures.
        skipped: Images that could not be used.
        conditions: When, where and by which command, for a page: the same compression made twice
            is one artifact.
    """

    to: str
    parent: dict[str, str]
    engine: dict[str, str]
    gate: LossLimits
    judged_on: str
    calibration: dict[str, str | int]
    head: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    recipe: str
    restored: tuple[Restored, ...]
    quantised: int
    convolutions: int
    finding: Loss
    verdict: Verdict
    speed: Speed | None
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    conditions: Conditions | None = None

    def regained(self) -> tuple[float, ...]:
        """How much less the metric drops with each restored layer than before it; 0-1."""
        kept = next(one for one in self.candidates if one.recipe == self.recipe)
        drops = [kept.finding.drop, *(one.finding.drop for one in self.restored)]
        return tuple(before - after for before, after in itertools.pairwise(drops))
