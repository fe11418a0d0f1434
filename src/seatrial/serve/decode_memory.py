"""Memory of a process for the images that it decodes at a time."""

from __future__ import annotations

import threading
from collections import deque

from seatrial.deployment import Limits
from seatrial.engines.places import Place
from seatrial.errors import InputTooLarge, Overloaded
from seatrial.serve.connection_limit import tls_memory_bytes
from seatrial.serve.forecast import Promise

# Of what is left after start-up and beside the bodies; the rest is for engines and answers.
SHARE = 0.7
# A request waits for memory until this share of its deadline is left: to be answered, or refused.
KEPT_SHARE = 0.1
POLL_S = 0.05  # in which a wait notices that its client has gone


class DecodeMemory:
    """Hands out a process's memory for decoding, in the order of asking. Thread-safe.

    Live requests come before those of a batch.

    Args:
        limit_bytes: Most that is handed out at a time.
        tls_bytes: Memory that is set aside for connections with TLS.
    """

    def __init__(self, limit_bytes: int, tls_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self.tls_bytes = tls_bytes
        self._held: dict[Place, int] = {}
        self._waiting: deque[Place] = deque()
        self._change = threading.Condition()

    @property
    def held_bytes(self) -> int:
        """Memory that is handed out."""
        return sum(self._held.values())

    def take(self, place: Place, wanted_bytes: int, promise: Promise) -> None:
        """Take memory for a request; waits where others have it.

        Args:
            place: The request's place.
            wanted_bytes: Memory that decoding takes at its peak.
            promise: What was foretold of the request.

        Raises:
            InputTooLarge: It is more than the process has.
            Overloaded: Others have it for as long as the request can wait.
            Abandoned: The request was cancelled.
            DeadlineExceeded: Its deadline has passed.
        """
        if wanted_bytes > self.limit_bytes:
            raise InputTooLarge(
                f"the image would take {wanted_bytes / 2**20:.0f} MiB to decode, and this process "
                f"has {self.limit_bytes / 2**20:.0f} MiB for that",
                hint="send a smaller image, or give the service more memory",
            )
        with self._change:
            self._waiting.append(place)
            try:
                while (
                    self._next() is not place or self.held_bytes + wanted_bytes > self.limit_bytes
                ):
                    place.check()
                    left_s = place.remaining_s() - max(
                        promise.work_s, KEPT_SHARE * place.deadline_s
                    )
                    if left_s <= 0:
                        raise Overloaded(
                            f"images that are decoded take {self.held_bytes / 2**20:.0f} of "
                            f"{self.limit_bytes / 2**20:.0f} MiB",
                            hint="send fewer large images at a time",
                            reason="pixels",
                            wait_s=promise.finish_s,
                        )
                    self._change.wait(min(left_s, POLL_S))
                self._held[place] = wanted_bytes
            finally:
                self._waiting.remove(place)
                self._change.notify_all()

    def _next(self) -> Place:
        """Whose turn it is, of those that wait."""
        return next((one for one in self._waiting if not one.batch), self._waiting[0])

    def keep(self, place: Place, kept_bytes: int) -> None:
        """Give back what a request no longer needs; 0 keeps nothing."""
        with self._change:
            if place in self._held:
                if kept_bytes:
                    self._held[place] = min(kept_bytes, self._held[place])
                else:
                    del self._held[place]
                self._change.notify_all()


def decode_memory(left_bytes: int, limits: Limits, *, tls: bool = False) -> DecodeMemory:
    """The memory for decoding of a process that has started.

    Args:
        left_bytes: What it may still take, see `seatrial.system.memory.memory_left_bytes`.
        limits: Limits of the deployment; bodies in flight have their own share, half at most.
        tls: Whether connections are encrypted; they have their own share then.
    """
    encrypted = tls_memory_bytes(left_bytes, limits.connections) if tls else 0
    left_bytes -= encrypted
    bodies = min(limits.bytes_in_flight, left_bytes // 2)
    return DecodeMemory(int(SHARE * (left_bytes - bodies)), encrypted)
