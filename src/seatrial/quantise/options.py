"""Options of a compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.accuracy.limits import LossLimits
from seatrial.errors import InvalidConfig

Backends = Literal["openvino", "onnxruntime", "tensorrt"]


@dataclass(frozen=True)
class QuantiseOptions:
    """Options of a compression.

    Attributes:
        to: Engine that the result is for.
        gate: What the INT8 version may lose.
        calibration: Largest number of calibration images, 1 or more.
        seed: Seed of the choice of calibration images.
        recipes: Ways of quantising to try [default: all]; openvino: no-bias-correction,
            fast-bias-correction, full-bias-correction; else: minmax, percentile, entropy.
        most_restored: Largest number of layers given back to float, 0 or more.
    """

    to: Backends = "openvino"
    gate: Annotated[LossLimits, Parameter(name="*")] = LossLimits()  # noqa: RUF009  frozen
    calibration: Annotated[int, Parameter(name="--pictures")] = 300
    seed: int = 0
    recipes: Annotated[tuple[str, ...], Parameter(name="--recipe")] = ()
    most_restored: int = 24


def check(options: QuantiseOptions) -> None:
    """Check that the options are in their ranges.

    Raises:
        InvalidConfig: One is not.
    """
    gate = options.gate
    for option, share in (("--gate", gate.drop), ("--max-shift", gate.shift)):
        if not 0 <= share <= 1:
            raise InvalidConfig(
                f"{option} {share:g} is not between 0 and 1",
                hint="half a point of AP is written 0.005",
            )
    for option, value, least in (
        ("--pictures", options.calibration, 1),
        ("--most-restored", options.most_restored, 0),
    ):
        if value < least:
            raise InvalidConfig(f"{option} {value} is less than {least}")
