"""Refusals and timeouts of a hub as errors of this package's tree."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import Access, Hub
from seatrial.system.network import network_reason

T = TypeVar("T")
RETRIED = (408, 429, 500, 502, 503, 504)
LONGEST_WAIT_S = 10.0


class Passing(Exception):
    """A failure that another attempt may not meet; `retried` and `download` handle it.

    Args:
        error: The error to raise when there is no other attempt.
        wait_s: Wait that the hub asks for, seconds; None where it does not say.
        answered: Whether the hub answered at all.
    """

    def __init__(
        self, error: SourceUnavailable, *, wait_s: float | None = None, answered: bool = True
    ) -> None:
        super().__init__(error.message)
        self.error, self.wait_s, self.answered = error, wait_s, answered


def retried(access: Access, ask: Callable[[], T], attempts: int | None = None) -> T:
    """Ask a hub again while it fails for a passing reason.

    A hub that does not answer at all is asked once: a wrong address should not take seconds.

    Args:
        access: Patience and, by default, the number of attempts.
        ask: The request.
        attempts: Another number of attempts.

    Raises:
        SeatrialError: As `ask` raises it; the error of a `Passing` after the last attempt.
    """
    attempts = attempts or access.attempts
    for failures in range(1, attempts + 1):
        try:
            return ask()
        except Passing as passing:
            last = failures == attempts or not passing.answered
            if last or not wait(access, failures, passing.wait_s):
                raise passing.error from passing
    raise AssertionError("the last attempt returns or raises")


def wait(access: Access, failures: int, asked_s: float | None = None) -> bool:
    """Sleep before the next attempt; False where the hub asks for too long a wait."""
    if asked_s is not None and asked_s > LONGEST_WAIT_S:
        return False
    backoff_s = min(access.patience_s * 2 ** (failures - 1), LONGEST_WAIT_S)
    time.sleep(backoff_s if asked_s is None else asked_s)
    return True


def mirror(hub: Hub) -> str:
    """How to reach another address of the hub."""
    return f"another address (a mirror) is set by {hub.mirror_setting}=https://..."


def unreachable(hub: Hub, error: BaseException) -> Passing:
    """The failure of a request without an answer, or with half of one."""
    return Passing(
        SourceUnavailable(
            f"{hub.title} cannot be reached at {hub.endpoint}: {network_reason(error)}",
            hint=f"check the network; {mirror(hub)}, a proxy by HTTPS_PROXY",
        ),
        answered=False,
    )


def refusal(hub: Hub, status: int, said: str, *, retry_after: str = "") -> Passing | SeatrialError:
    """The error of an answer that is a refusal.

    Args:
        hub: The hub that answered.
        status: HTTP status, 300 or more.
        said: The hub's own words.
        retry_after: Seconds that it asks to wait, as text; empty where it does not say.
    """
    if status == 404:
        return InvalidInput(f"{hub.title} has no such model, revision or file ({said})")
    if status in (401, 403):
        return forbidden(hub, status, said)
    if status == 429:
        when = f"; it asks to wait {retry_after} s" if retry_after else ""
        error = SourceUnavailable(
            f"{hub.title} at {hub.endpoint} refuses: too many requests (429){when}",
            hint=f"wait; with {hub.token_setting} the limits are higher; {mirror(hub)}",
        )
    else:
        error = SourceUnavailable(
            f"{hub.title} at {hub.endpoint} answered {status} ({said})",
            hint=f"try again later; {mirror(hub)}",
        )
    if status not in RETRIED:
        return error
    return Passing(error, wait_s=float(retry_after) if retry_after.isdigit() else None)


def forbidden(hub: Hub, status: int, said: str, *, gated: bool = False) -> SourceUnavailable:
    """The error of a model that the hub keeps to some."""
    if gated:
        return SourceUnavailable(
            f"{hub.title} gives this model only to those who accepted its terms ({status}: {said})",
            hint=f"accept them on the model's page, then set {hub.token_setting}",
        )
    if hub.token:
        return SourceUnavailable(
            f"{hub.title} does not accept the token for this model ({status}: {said})",
            hint=f"set {hub.token_setting} to one that may read it, or unset it for public models",
        )
    return SourceUnavailable(
        f"{hub.title} does not give this model to anonymous users ({status}: {said})",
        hint=f"the model may be private or gated: set {hub.token_setting}; {mirror(hub)}",
    )
