"""The protocol by which long work reports its progress: messages, counts and bytes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work from the thread that started it.

    ``on_progress("opening yolo11n")`` is a message; ``on_progress("checking images", 3, 16)`` is
    a step of which 3 of 16 parts are done; with ``unit="B"`` the parts are bytes, with
    ``unit="s"`` the seconds of a measurement, whose steps share one total.
    """

    def __call__(self, what: str, done: int = 0, total: int = 0, *, unit: str = "") -> object:
        """Show or record the progress.

        Args:
            what: The step in words; calls with equal words belong to one step.
            done: Number of parts that are done.
            total: Number of all parts; 0 where it is not known.
            unit: ``"B"`` for bytes, ``"s"`` for seconds; empty for anything that is counted.
        """


def silent(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    """Ignore the progress."""
