"""Runs of the engine: of one request, or of several that wait for a lane at the same time.

The first request of a batch has the lane. It stacks what all of them feed, runs the lane once on
its own thread, and gives each its part of the outputs. The others wait for that as they would for a
lane: until their deadline, and no longer than their clients are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays, Lane
from seatrial.engines.lanes import Lanes
from seatrial.engines.places import Place, Share
from seatrial.errors import EngineFailed

Infer = Callable[[Lane, Arrays], dict[str, NDArray[Any]]]
"""Runs a lane; what it raises is a `SeatrialError`."""


class Batches:
    """Runs the engine for requests, alone or together. Thread-safe.

    Args:
        lanes: The engine's lanes.
        infer: Runs one.
    """

    def __init__(self, lanes: Lanes, infer: Infer) -> None:
        self._lanes = lanes
        self._infer = infer

    def run(self, place: Place, feeds: Arrays) -> Share:
        """Run the engine for a request, and for others that wait at the same time.

        Args:
            place: The request's place, which is ready.
            feeds: Input name -> array of batch size 1.

        Returns:
            The outputs. Where `Share.lane` is not None the caller holds it, and is to release it
            when it has read them.

        Raises:
            DeadlineExceeded: The deadline passed before a lane was free, or before another
                request's run was over.
            Abandoned: The request was cancelled before that.
            EngineFailed: The engine raised.
        """
        share = Share(feeds)
        if self._lanes.max_batch > 1:
            place.share = share
        lane = self._lanes.acquire(place)
        if lane is not None:
            share.threads, share.ran_on, share.began = lane.threads, lane, time.perf_counter()
            if len(place.sharing) > 1:
                self._run_together(lane, place.sharing)
            else:
                self._run_alone(lane, share)
        if share.error is not None:
            raise share.error
        return share

    def _run_alone(self, lane: Lane, share: Share) -> None:
        outputs = None
        try:
            outputs = share.outputs = self._infer(lane, share.feeds)
            share.ended = time.perf_counter()
            share.lane = lane if lane.lends else None
        finally:
            if share.lane is None:
                if outputs is None:
                    self._lanes.judge(lane, failed=True)
                self._lanes.release(lane, ran=outputs is not None)

    def _run_together(self, lane: Lane, places: list[Place]) -> None:
        shares = [place.share for place in places if place.share is not None]
        failed = True
        try:
            try:
                self._run_shares(lane, shares)
            except (EngineFailed, MemoryError):
                # An image at which the engine fails takes no other with it.
                self._run_in_turn(lane, places)
            failed = any(share.error is not None for share in shares)
        finally:
            if failed:
                self._lanes.judge(lane, failed=True)
            self._lanes.release(lane, ran=not failed)
            for share in shares:
                if not share.outputs and share.error is None:
                    share.error = EngineFailed("the run of several images ended without outputs")
            self._lanes.wake(places[1:])

    def _run_shares(self, lane: Lane, shares: list[Share]) -> None:
        """Run a lane once for all of them."""
        began = time.perf_counter()
        feeds = {
            name: np.concatenate([share.feeds[name] for share in shares])
            for name in shares[0].feeds
        }
        outputs = self._infer(lane, feeds)
        for index, share in enumerate(shares):
            share.outputs = {
                name: np.array(array[index : index + 1]) if lane.lends else array[index : index + 1]
                for name, array in outputs.items()
            }
        ended = time.perf_counter()
        for share in shares:
            share.began, share.ended = began, ended
            share.threads, share.ran_on, share.size = lane.threads, lane, len(shares)

    def _run_in_turn(self, lane: Lane, places: list[Place]) -> None:
        """Run a lane for each of them that is still wanted."""
        for place in places:
            share = place.share
            if share is None or not place.wanted:
                continue
            try:
                self._run_shares(lane, [share])
            except EngineFailed as error:
                share.error = error
