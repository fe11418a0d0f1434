"""The thresholds of one call: the deployment's, overridden by options in text."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from seatrial.config import readable
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput, did_you_mean


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
        return msgspec.convert(
            {**msgspec.structs.asdict(default), **given}, Thresholds, strict=False
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(f"parameters: {readable(error, Thresholds)}", hint=hint) from error
