"""The thresholds of one request: the deployment's, overridden by the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seatrial.deployment import Thresholds
from seatrial.detect.thresholds import threshold_options
from seatrial.errors import InvalidInput

# Largest `max_detections` of a query where the deployment's own is not larger: suppression compares
# each of up to 30,000 candidates with every box that is kept.
MOST_DETECTIONS = 1000


def query_options(query: Sequence[tuple[str, str]], default: Thresholds) -> Thresholds:
    """`threshold_options` of a query, in which each parameter stands once.

    Raises:
        InvalidInput: See `threshold_options`; or a parameter is given twice, or asks for more
            detections than a request may.
    """
    if not query:
        return default
    name, times = Counter(key for key, _ in query).most_common(1)[0]
    if times > 1:
        raise InvalidInput(
            f"parameters: {name!r} is given {times} times", hint="give each parameter once"
        )
    options = threshold_options(dict(query), default)
    most = max(MOST_DETECTIONS, default.max_detections)
    if options.max_detections > most:
        raise InvalidInput(
            f"parameters: max_detections must be a whole number <= {most}",
            hint="ask for fewer, or raise detection.max_detections of the deployment",
        )
    return options
