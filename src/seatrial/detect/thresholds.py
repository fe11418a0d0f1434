"""The thresholds of one call: the deployment's, overridden by options in text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import msgspec

from seatrial.config import readable
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput, did_you_mean

_DECIMALS = {
    one.name for one in msgspec.structs.fields(Thresholds) if isinstance(one.default, float)
}
# As people and clients write them, also where JSON does not: ".9", "9.", "+0.9".
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONGEST_DECIMAL = 64  # characters; longer text is read as JSON has it


def threshold_options(given: Mapping[str, object], default: Thresholds) -> Thresholds:
    """The deployment's thresholds, replaced where a call names others.

    Args:
        given: Field of `Thresholds` -> value, or its text, for example a parsed query.
        default: Thresholds of the deployment.

    Raises:
        InvalidInput: An unknown parameter or a value out of range.
    """
    if not given:
        return default
    known = Thresholds.__struct_fields__
    hint = f"known parameters: {', '.join(known)}"
    if unknown := [name[:40] for name in given if name not in known]:
        raise InvalidInput(
            f"parameters: {unknown[0]!r} is not known",
            hint=did_you_mean(unknown[0], known, otherwise=hint),
        )
    try:
        named = {name: _decimal(name, value) for name, value in given.items()}
        return msgspec.convert(
            {**msgspec.structs.asdict(default), **named}, Thresholds, strict=False
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(f"parameters: {readable(error, Thresholds)}", hint=hint) from error


def _decimal(name: str, value: object) -> object:
    """The number that the text of a threshold is; other values as they are."""
    if name not in _DECIMALS or not isinstance(value, str) or len(value) > _LONGEST_DECIMAL:
        return value
    text = value.strip(" ")  # a query has a blank where its sender wrote "+"
    if not _DECIMAL.fullmatch(text):
        return value
    number = float(text)
    return number if math.isfinite(number) else value
