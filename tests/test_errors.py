"""The tree of errors: drawn, complete, and with a status and an exit code each."""

from __future__ import annotations

import inspect
import re

import pytest

from seatrial import errors
from seatrial.errors import InvalidInput, SeatrialError

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SeatrialError)
]
# name, HTTP status, exit code of each line of the drawing; what is left out is inherited.
DRAWN = {
    match["name"]: (match["status"], match["exit"])
    for match in re.finditer(
        r"\|?[-`]*-- (?P<name>\w+) .*?(?P<status>\d{3})?(?:\s+exit (?P<exit>\d))?$",
        errors.__doc__ or "",
        re.MULTILINE,
    )
}


def test_every_error_is_in_the_drawing() -> None:
    assert set(DRAWN) == {kind.__name__ for kind in ALL} - {"SeatrialError"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_drawing_tells_the_truth(kind: type[SeatrialError]) -> None:
    status, exit_code = DRAWN.get(kind.__name__, (None, None))
    if status:
        assert kind.http_status == int(status)
    if exit_code:
        assert kind.exit_code == int(exit_code)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_callers_fault_is_4xx_and_nothing_else_is(kind: type[SeatrialError]) -> None:
    assert (400 <= kind.http_status < 500) == issubclass(kind, InvalidInput)
    assert 0 < kind.exit_code < 126


def test_an_error_carries_message_and_hint() -> None:
    error = errors.PortInUse("cannot listen on :80", hint="choose another")
    assert (str(error), error.message, error.hint) == ("cannot listen on :80",) * 2 + (
        "choose another",
    )
    assert error.code == "PortInUse"
    assert SeatrialError("x").hint == ""
