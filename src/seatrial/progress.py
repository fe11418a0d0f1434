"""How long work says how far it is: one protocol for words, counts and bytes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work from the thread that started it.

    ``on_progress("opening yolo11n")`` is a message; ``on_progress("checking images", 3, 16)`` is
    a step of which 3 of 16 parts are done; with ``unit="B"`` the parts are bytes, with
    ``unit="s"`` the seconds of a measurement, whose steps share one total.
    """

    def __call__(self, what: str, done: int = 0, total: int = 0, *, unit: str = "") -> object:
        """Take note.

        Args:
            what: The step in words; equal words belong to one step.
            done: Parts that are done.
            total: Parts in all; 0 where that is not known.
            unit: ``"B"`` for bytes, ``"s"`` for seconds; empty for anything that is counted.
        """


def silent(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    """Progress that nobody reads."""
