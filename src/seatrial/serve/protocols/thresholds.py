"""Thresholds of one request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from seatrial.config import readable
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput


def detection_options(given: Mapping[str, str], default: Thresholds) -> Thresholds:
    """The deployment's thresholds, with what a request names.

    Args:
        given: Field of `Thresholds` -> text, for example a parsed query.
        default: From the deployment.

    Raises:
        InvalidInput: An unknown parameter or a value out of range.
    """
    if not given:
        return default
    try:
        return msgspec.convert(
            {**msgspec.structs.asdict(default), **given}, Thresholds, strict=False
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"parameters: {readable(error)}",
            hint=f"known parameters: {', '.join(Thresholds.__struct_fields__)}",
        ) from error


def query_options(query: Iterable[tuple[str, str]], default: Thresholds) -> Thresholds:
    """`detection_options` of a query, where each parameter stands once.

    Raises:
        InvalidInput: One is there twice, too.
    """
    pairs = list(query)
    name, times = next(iter(Counter(key for key, _ in pairs).most_common(1)), ("", 0))
    if times > 1:
        raise InvalidInput(
            f"parameters: {name!r} is given {times} times", hint="give each parameter once"
        )
    return detection_options(dict(pairs), default)
