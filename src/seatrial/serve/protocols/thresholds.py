"""The thresholds of one request: the deployment's, overridden by the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seatrial.deployment import Thresholds
from seatrial.detect.thresholds import threshold_options
from seatrial.errors import InvalidInput


def query_options(query: Sequence[tuple[str, str]], default: Thresholds) -> Thresholds:
    """`threshold_options` of a query, in which each parameter stands once.

    Raises:
        InvalidInput: See `threshold_options`; or a parameter is given twice.
    """
    if not query:
        return default
    name, times = Counter(key for key, _ in query).most_common(1)[0]
    if times > 1:
        raise InvalidInput(
            f"parameters: {name!r} is given {times} times", hint="give each parameter once"
        )
    return threshold_options(dict(query), default)
