"""The thresholds of one request: the deployment's, overridden by the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from seatrial.deployment import Thresholds
from seatrial.detect.thresholds import threshold_options
from seatrial.errors import InvalidInput


def query_options(
    query: Sequence[tuple[str, str]], default: Thresholds, most_detections: int
) -> Thresholds:
    """`request_options` of a query, in which each parameter stands once.

    Raises:
        InvalidInput: See `request_options`; or a parameter is given twice.
    """
    if not query:
        return default
    name, times = Counter(key for key, _ in query).most_common(1)[0]
    if times > 1:
        raise InvalidInput(
            f"parameters: {name!r} is given {times} times", hint="give each parameter once"
        )
    return request_options(dict(query), default, most_detections)


def request_options(
    given: Mapping[str, object], default: Thresholds, most_detections: int
) -> Thresholds:
    """`threshold_options` of a request.

    Args:
        given: Field of `Thresholds` -> value, as text or as what it is.
        default: Thresholds of the deployment.
        most_detections: `Limits.detections` of the deployment.

    Raises:
        InvalidInput: See `threshold_options`; or more detections than a request may ask for.
    """
    options = threshold_options(given, default)
    most = max(most_detections, default.max_detections)
    if options.max_detections > most:
        raise InvalidInput(
            f"parameters: max_detections must be a whole number <= {most}",
            hint="ask for fewer, or raise limits.detections of the deployment",
        )
    return options
