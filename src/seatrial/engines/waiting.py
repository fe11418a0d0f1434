"""Requests that wait for a lane, and which of them share a run.

A batch is released when it is full, when no other image is on its way, or when the first of it has
waited for the others as long as it may. So a request that is alone is never held back: nothing is
on its way that it could wait for.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from seatrial.engines.places import Place

# Why a batch was released: it has as many images as it may have; its first image has waited as
# long as it may; a lane was idle and no other image on its way.
FULL, DELAY, IDLE = "full", "delay", "idle"
REASONS = (FULL, DELAY, IDLE)


class SharedRun(NamedTuple):
    """Requests that share a run.

    Attributes:
        places: Their places, the first to ask first.
        reason: One of `REASONS`.
        held_s: Seconds that it was held back although a lane was free.
    """

    places: list[Place]
    reason: str
    held_s: float


class Waiting:
    """Requests that wait for a lane: live ones, and those of a batch, which start after them.

    Not thread-safe.

    Args:
        max_batch: Most requests that share a run.
        delay_s: Longest time that a request waits for others although a lane is free.
    """

    def __init__(self, max_batch: int = 1, delay_s: float = 0.0) -> None:
        self.max_batch = max_batch
        self.delay_s = delay_s if max_batch > 1 else 0.0
        self._queues: tuple[deque[Place], deque[Place]] = deque(), deque()
        self._held_since: float | None = None

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def add(self, place: Place) -> None:
        """Let a request wait behind the others of its priority."""
        self._queues[place.batch].append(place)

    def discard(self, place: Place) -> bool:
        """Let a request wait no more.

        Returns:
            Whether it waited.
        """
        queue = self._queues[place.batch]
        if place not in queue:
            return False
        queue.remove(place)
        return True

    def put_back(self, places: list[Place]) -> None:
        """Let requests wait again, before all others."""
        for place in reversed(places):
            self._queues[place.batch].appendleft(place)

    def patience_s(self, place: Place, run_s: float) -> float:
        """Seconds from its asking on that a request may be held back, to be answered in time.

        Args:
            place: The request.
            run_s: Seconds of a run.
        """
        return max(0.0, min(self.delay_s, place.remaining_s() - 2 * run_s))

    def take(self, coming: bool, run_s: float) -> SharedRun | None:
        """The next batch; None where it is held back, or nobody waits.

        Requests of one priority share a run: a live one never waits for an image of a batch. What
        is not wanted any more is not in it, and learns so from its own wait.

        Args:
            coming: Whether there are requests that are ready and have not asked yet.
            run_s: Seconds of a run.
        """
        queue = next((queue for queue in self._queues if queue), None)
        if queue is None:
            return None
        chosen = self._joined(queue)
        now = time.monotonic()
        if len(chosen) == self.max_batch:
            reason = FULL
        elif not self.delay_s or not coming or not chosen[0].joins:
            reason = IDLE
        elif any(now - one.asked >= self.patience_s(one, run_s) for one in chosen):
            reason = DELAY
        else:
            self._held_since = self._held_since or now
            return None
        held_s = now - self._held_since if self._held_since else 0.0
        self._held_since = None
        for place in chosen:
            queue.remove(place)
        return SharedRun(chosen, reason, held_s)

    def _joined(self, queue: deque[Place]) -> list[Place]:
        """The first requests that may share a run, in their order."""
        if self.max_batch == 1 or not queue[0].joins:
            return [queue[0]]
        chosen: list[Place] = []
        for place in queue:
            if not place.joins or len(chosen) == self.max_batch:
                break
            if place.wanted:
                chosen.append(place)
        return chosen or [queue[0]]
