"""What errors keep alive."""

from __future__ import annotations

import gc
import traceback
import weakref
from collections.abc import Callable

import pytest

from seatrial.system.frames import release_frames


class Large:
    """Stands for an image."""


def fails(large: Large, seen: list[weakref.ref[Large]]) -> None:
    seen.append(weakref.ref(large))
    raise LookupError("of no interest")


def as_it_is(large: Large, seen: list[weakref.ref[Large]]) -> None:
    fails(large, seen)


def from_it(large: Large, seen: list[weakref.ref[Large]]) -> None:
    try:
        fails(large, seen)
    except LookupError as error:
        raise ValueError from error


def beside_it(large: Large, seen: list[weakref.ref[Large]]) -> None:
    try:
        fails(large, seen)
    finally:
        raise ValueError


@pytest.mark.parametrize("way", [as_it_is, from_it, beside_it])
def test_an_error_keeps_nothing_but_its_text(way: Callable[..., None]) -> None:
    seen: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        way(Large(), seen)
    except Exception as error:  # noqa: BLE001 - any will do
        kept = error
    finally:
        gc.enable()
    assert seen[0]() is not None
    release_frames(kept)
    assert seen[0]() is None
    assert "raise LookupError" in "".join(traceback.format_exception(kept))


def test_errors_that_caused_each_other_have_an_end() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    release_frames(one)
    release_frames(None)
