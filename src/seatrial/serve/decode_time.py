"""No image is decoded past the deadline of its request: its header says before what it may take."""

from __future__ import annotations

import math

from seatrial.engines.places import Place
from seatrial.errors import InvalidImage, Overloaded
from seatrial.serve.forecast import Forecast, Promise, in_words

# An image is large if decoding takes such a part of the deadline. Beside others all large ones at
# work take this part together, but one is let in.
LARGE, LARGE_SHARE = 0.1, 1 / 3


def check_possible(forecast: Forecast, bound_s: float, limit_s: float) -> None:
    """Refuse an image that no request of a service has the time for.

    Args:
        forecast: Knows how long decoding takes here.
        bound_s: Most CPU time that decoding takes, see `seatrial.detect.decode_cost`.
        limit_s: Seconds from the arrival of a request to its deadline.

    Raises:
        InvalidImage: Decoding may take longer than that.
    """
    longest_s = _longest_s(forecast, bound_s)
    if longest_s > limit_s:
        raise InvalidImage(
            f"the image would take up to {1e3 * longest_s:.0f} ms to decode, and a request has "
            f"{1e3 * limit_s:.0f} ms",
            hint="save it as a JPEG that is not progressive, or smaller; or give it more time",
        )


def check_in_time(
    place: Place, promise: Promise, forecast: Forecast, bound_s: float, *, alone: bool
) -> None:
    """Refuse an image that would not be decoded, or answered, in the time that is left.

    A thread works for it, and nothing is decoded yet.

    Args:
        place: The request's place.
        promise: Its forecast, which is made anew.
        forecast: The forecast that it is of.
        bound_s: Most CPU time that decoding takes.
        alone: Whether no other request is here: then the bound alone counts, since a forecast that
            is wrong would otherwise stay wrong.

    Raises:
        Overloaded: It would be late.
    """
    left_s = place.remaining_s()
    longest_s, work_s = _longest_s(forecast, bound_s), forecast.weighed(promise, bound_s)
    if longest_s > left_s or (not alone and work_s > left_s):
        left_s = math.floor(1e3 * left_s) / 1e3
        raise Overloaded(
            f"it would be answered after another {in_words(max(longest_s, work_s), left_s)} s, "
            f"and has {left_s:g} s",
            hint="send less at a time, a smaller image, or give it more time",
            reason="deadline",
            wait_s=promise.finish_s,
        )


def check_beside(
    forecast: Forecast, promise: Promise, bound_s: float, deadline_s: float, *, together: bool
) -> None:
    """Count a large image of a live request; refuse one that leaves other requests too little.

    The bytes of a file tell little of its pixels, so that many are let in at a time.

    Args:
        forecast: The forecast of the service.
        promise: That of the request, made anew from its header.
        bound_s: Most CPU time that decoding takes.
        deadline_s: Deadline of the deployment.
        together: Whether it is one of several images of a request, which was let in with all.

    Raises:
        Overloaded: Other large images are at work, and there are others that need the time.
    """
    if forecast.pace * bound_s <= LARGE * deadline_s:
        return
    limit_s = math.inf if together else LARGE_SHARE * deadline_s
    large_s = forecast.large_ones_s(promise, limit_s)
    if large_s > limit_s:
        limit_s = math.floor(1e3 * limit_s) / 1e3
        raise Overloaded(
            f"large images take another {in_words(large_s, limit_s)} s with this one, and have "
            f"{limit_s:g} s beside others",
            hint="send large images one after the other, or as a batch (X-Request-Priority)",
            reason="deadline",
            wait_s=promise.finish_s,
        )


def _longest_s(forecast: Forecast, bound_s: float) -> float:
    """The bound on this machine: where decoding took longer, the bound is that much longer."""
    return max(1.0, forecast.pace) * bound_s
