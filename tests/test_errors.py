"""The tree of errors: drawn, complete, and with a status and an exit code each."""

from __future__ import annotations

import inspect
import re
import signal
from pathlib import Path

import grpc
import pytest

from seatrial import errors
from seatrial.cli import main
from seatrial.cli.verdict import BROKEN, UNDECIDED
from seatrial.errors import InvalidInput, SeatrialError

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SeatrialError)
]
# Name -> depth, HTTP status, gRPC status, exit code of each line of the drawing.
DRAWN = {
    match["name"]: (len(match["tree"]) // 4, int(match["http"]), match["grpc"], int(match["exit"]))
    for match in re.finditer(
        r"^    (?P<tree>[|` ]*[|`]-- )(?P<name>\w+) .* "
        r"(?P<http>\d{3}) +(?P<grpc>\w+) +(?P<exit>\d+)$",
        errors.__doc__ or "",
        re.MULTILINE,
    )
}


def test_every_error_is_in_the_drawing() -> None:
    assert set(DRAWN) == {kind.__name__ for kind in ALL} - {"SeatrialError"}


@pytest.mark.parametrize(
    "kind", [kind for kind in ALL if kind is not SeatrialError], ids=lambda kind: kind.__name__
)
def test_the_drawing_tells_the_truth(kind: type[SeatrialError]) -> None:
    depth = len(kind.__mro__) - len(SeatrialError.__mro__)
    assert DRAWN[kind.__name__] == (depth, kind.http_status, kind.grpc_status, kind.exit_code)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_callers_fault_is_4xx_and_nothing_else_is(kind: type[SeatrialError]) -> None:
    assert (400 <= kind.http_status < 500) == issubclass(kind, InvalidInput)
    assert 0 < kind.exit_code < 126


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_grpc(kind: type[SeatrialError]) -> None:
    assert kind.grpc_status in grpc.StatusCode.__members__
    # What a client may simply try again is the same over both.
    assert (kind.http_status in (502, 503)) == (kind.grpc_status == "UNAVAILABLE")


def test_an_error_carries_message_and_hint() -> None:
    error = errors.PortInUse("cannot listen on :80", hint="choose another")
    assert (str(error), error.message, error.hint) == ("cannot listen on :80",) * 2 + (
        "choose another",
    )
    assert error.code == "PortInUse"
    assert SeatrialError("x").hint == ""


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("one\ntwo", "one"),
        ("\n  one  \n two", "one"),
        ("x" * 400, "x" * 300),
        (ValueError("why\nindeed"), "why"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "'name'"),
    ],
)
def test_the_first_line_of_what_is_said(said: object, line: str) -> None:
    assert errors.first_line(said) == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("it's", '"it\'s"'),
        (["cat", 1], "['cat', 1]"),
        ({"a": [[1]]}, "{'a': [[...]]}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ...]"),
        ("x" * 500, "'" + "x" * 46 + " ... " + "x" * 46 + "'"),
        ([10**5000], "[a number of 16610 bits]"),
    ],
)
def test_a_value_in_a_message_is_short(value: object, text: str) -> None:
    assert errors.shown(value) == text


def test_a_value_that_holds_itself_many_times_is_short_at_once() -> None:
    value: list[object] = ["x"]
    for _ in range(60):
        value = [value] * 10
    assert len(errors.shown(value)) < 120


def test_messages_and_hints_have_a_length() -> None:
    error = SeatrialError("x" * 10**6, hint="y" * 10**6)
    assert len(str(error)) <= errors.LONGEST_MESSAGE >= len(error.hint)


CODES = {
    int(match["code"]): {*re.findall(r"\w+", match["errors"])}
    for match in re.finditer(
        r"^\| (?P<code>\d+) \|[^|]*\|(?P<errors>[^|]*)\|$",
        (Path(__file__).parents[1] / "docs/reference/command-line.md").read_text(),
        re.MULTILINE,
    )
}


def test_the_reference_has_each_exit_code_with_its_errors() -> None:
    own = {kind.exit_code for kind in ALL} | {
        0, BROKEN, UNDECIDED, main.INPUT_OUTPUT, main.INTERRUPTED, 128 + signal.SIGTERM,
    }  # fmt: skip
    assert set(CODES) == own
    for code, names in CODES.items():
        kinds = {kind.__name__ for kind in ALL if kind.exit_code == code}
        assert names == kinds - {"SeatrialError"}, code
