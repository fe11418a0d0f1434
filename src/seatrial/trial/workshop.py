"""The work of other rooms that a trial needs: artifacts, accuracy, engines, services."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from seatrial.trial.candidates import Arrangement, Variant
from seatrial.trial.journal import RawEntry, ScoreEntry


class Workshop(Protocol):
    """Makes artifacts, measures them in this process, and starts services of them."""

    def make(self, variant: Variant) -> tuple[str, str]:
        """Make an artifact, or find it in the store.

        Returns:
            Its name and its digest.

        Raises:
            SeatrialError: It cannot be made.
        """

    def score(self, one: Arrangement, artifact: str) -> ScoreEntry:
        """Measure accuracy on the labelled images, in this process.

        Raises:
            SeatrialError: The engine does not run it.
        """

    def raw_speed(self, one: Arrangement, artifact: str) -> RawEntry:
        """Measure the engine alone, in this process.

        Raises:
            SeatrialError: The engine does not run it.
        """

    def serve(self, one: Arrangement, artifact: str) -> AbstractContextManager[str]:
        """A service in processes of its own for as long as the block lasts, as its address.

        Raises:
            SeatrialError: It does not start.
        """
