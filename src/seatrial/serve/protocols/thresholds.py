"""The thresholds of one request: the deployment's, overridden by the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from seatrial.config import readable
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput


def detection_options(given: Mapping[str, str], default: Thresholds) -> Thresholds:
    """The deployment's thresholds, replaced where a request names others.

    Args:
        given: Field of `Thresholds` -> text, for example a parsed query.
        default: Thresholds of the deployment.

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


def query_options(query: Sequence[tuple[str, str]], default: Thresholds) -> Thresholds:
    """`detection_options` of a query, in which each parameter stands once.

    Raises:
        InvalidInput: See `detection_options`; or a parameter is given twice.
    """
    if not query:
        return default
    name, times = Counter(key for key, _ in query).most_common(1)[0]
    if times > 1:
        raise InvalidInput(
            f"parameters: {name!r} is given {times} times", hint="give each parameter once"
        )
    return detection_options(dict(query), default)
