"""Options of a compression: their defaults, and the ranges that they are held to."""

from __future__ import annotations

import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.errors import InvalidConfig
from seatrial.quantise.options import QuantiseOptions, check


def test_what_a_compression_does_unasked() -> None:
    """The help names these."""
    options = QuantiseOptions()
    assert (options.to, options.recipes) == ("openvino", ())
    assert (options.calibration, options.seed, options.most_restored) == (300, 0, 24)
    check(options)


@pytest.mark.parametrize(
    "options",
    [
        QuantiseOptions(gate=LossLimits(drop=0.0, shift=0.0)),
        QuantiseOptions(gate=LossLimits(drop=1.0, shift=1.0)),
        QuantiseOptions(calibration=1),
        QuantiseOptions(most_restored=0),
    ],
)
def test_the_ends_of_a_range_belong_to_it(options: QuantiseOptions) -> None:
    check(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (QuantiseOptions(gate=LossLimits(drop=-0.01)), "--gate -0.01 is not between 0 and 1"),
        (QuantiseOptions(gate=LossLimits(drop=1.5)), "--gate 1.5 is not between 0 and 1"),
        (QuantiseOptions(gate=LossLimits(shift=-1)), "--max-shift -1 is not between 0 and 1"),
        (QuantiseOptions(gate=LossLimits(shift=2)), "--max-shift 2 is not between 0 and 1"),
        (QuantiseOptions(calibration=0), "--pictures 0 is less than 1"),
        (QuantiseOptions(most_restored=-1), "--most-restored -1 is less than 0"),
    ],
)
def test_what_is_out_of_its_range_is_named(options: QuantiseOptions, message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        check(options)
    assert str(caught.value).startswith(message)
