"""When a request is sent again: what may be, after which time, and how often in all.

A client that sends again what an overloaded service refused makes the overload worse. So it waits
as long as the service asks for and a random time on top, and all calls of a client together send
only a tenth more than was asked of them (Google, Site Reliability Engineering, chapter 21).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

SHARE = 0.1  # of a client's requests that may be sent a second time
# Beyond that share, a client may send so many again: a service that restarts breaks off as many
# requests as there are connections.
RESERVE = 32
# The random time is at most this before the first retry, twice that before the second, and so on.
FIRST_S, LONGEST_S = 0.1, 5.0


class RetryBudget:
    """Retries that a client has left. Thread-safe.

    Args:
        share: Retries that each request adds.
        reserve: Retries that there are at first, and most that there are at any time.
    """

    def __init__(self, share: float = SHARE, reserve: float = RESERVE) -> None:
        self._share = share
        self._reserve = self._left = float(reserve)
        self._lock = threading.Lock()

    def request(self) -> None:
        """Count a request that is sent for the first time."""
        with self._lock:
            self._left = min(self._reserve, self._left + self._share)

    def take(self) -> bool:
        """Take one retry; False where none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


def pause_s(
    attempt: int,
    retry_after_s: float = 0.0,
    draw: Callable[[float, float], float] = random.uniform,
) -> float:
    """Seconds to wait before a request is sent again: what the service asks for, and more.

    Args:
        attempt: Number of times that it was sent again, from 0.
        retry_after_s: What the service asks for.
        draw: Gives a number between two others: the whole of the own wait is random ("full
            jitter"), so that clients which were refused together do not come back together.
    """
    return retry_after_s + draw(0.0, min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 30)))


def retry_after_s(value: str | None, now: Callable[[], float] = time.time) -> float:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3); 0 where it says nothing.

    Args:
        value: Whole seconds, or a date.
        now: Gives the time, seconds since 1970.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except (ValueError, OverflowError):
        return 0.0
