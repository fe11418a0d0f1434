"""What both hubs have in common: bodies, attempts, settings, and answers that are not the API's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from seatrial.errors import SourceUnavailable
from seatrial.models.hubs.access import HUGGINGFACE, Access
from seatrial.models.hubs.client import FileStream, HubClient, check_redirect
from seatrial.models.hubs.refusals import Passing

FAST = Access(patience_s=0.0, attempts=3)


class Stub(HubClient):
    """A client without a library."""

    search = snapshot = open = None  # type: ignore[assignment]

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        yield


Stub.__abstractmethods__ = frozenset()


def stub(**changes: Any) -> HubClient:
    return Stub(FAST, msgspec.structs.replace(HUGGINGFACE, **changes))  # type: ignore[abstract]


def failing(*failures: Exception) -> Callable[[], str]:
    """A call that fails in turn, then answers."""
    rest = list(failures)

    def call() -> str:
        if rest:
            raise rest.pop(0)
        return "answer"

    return call


def passing(*, answered: bool = True) -> Passing:
    return Passing(SourceUnavailable("busy"), answered=answered)


def test_a_passing_failure_is_asked_again() -> None:
    assert stub().ask(failing(passing(), passing())) == "answer"
    with pytest.raises(SourceUnavailable, match="busy"):
        stub().ask(failing(passing(), passing(), passing()))
    with pytest.raises(SourceUnavailable, match="busy"):
        stub().ask(failing(passing()), attempts=1)


def test_silence_is_not_asked_again() -> None:
    with pytest.raises(SourceUnavailable, match="busy"):
        stub().ask(failing(passing(answered=False)))


@pytest.mark.parametrize(
    "error", [AttributeError("x"), KeyError("x"), TypeError("x"), ValueError("x")]
)
def test_an_answer_that_the_library_cannot_read_is_not_of_the_api(error: Exception) -> None:
    with pytest.raises(SourceUnavailable, match="answered something else than its API") as refusal:
        stub().ask(failing(error))
    assert "HF_ENDPOINT names no mirror" in refusal.value.hint


def test_a_refusal_of_the_library_is_not_taken_for_an_answer() -> None:
    errors = pytest.importorskip("modelscope_hub.errors")
    with pytest.raises(errors.InvalidParameter):  # a ValueError; `asking` maps it
        stub().ask(failing(errors.InvalidParameter("x", status_code=400)))


def test_a_setting_that_forbids_the_network() -> None:
    with pytest.raises(SourceUnavailable, match="TRANSFORMERS_OFFLINE is set") as refusal:
        stub(offline_setting="TRANSFORMERS_OFFLINE").ask(failing())
    assert "unset TRANSFORMERS_OFFLINE" in refusal.value.hint
    stub().check_online()


@pytest.mark.parametrize(
    ("origin", "target", "fine"),
    [
        ("https://hub/a", "https://cdn/x", True),
        ("https://hub/a", "http://cdn/x", False),
        ("HTTPS://hub/a", "http://cdn/x", False),
        ("https://hub/a", "file:///x", False),
        ("http://hub/a", "http://cdn/x", True),
        ("http://hub/a", "https://cdn/x", True),
    ],
)
def test_a_redirect_does_not_end_the_encryption(origin: str, target: str, fine: bool) -> None:
    if fine:
        check_redirect(origin, target)
    else:
        with pytest.raises(SourceUnavailable, match=rf"^hub redirects to {target}, without"):
            check_redirect(origin, target)


@pytest.mark.parametrize(
    ("headers", "start", "size"),
    [
        ({}, 0, None),
        ({"Content-Length": "7"}, 0, 7),
        ({"Content-Range": "bytes 3-6/7", "Content-Length": "4"}, 3, 7),
        ({"Content-Range": "bytes 3-6/*", "Content-Length": "4"}, 3, 7),
        ({"Content-Range": "bytes */7"}, 0, None),
    ],
)
def test_where_a_body_begins(headers: dict[str, str], start: int, size: int | None) -> None:
    body = FileStream.of(headers, ())
    assert (body.start, body.size_bytes) == (start, size)


def test_redirects_without_an_end() -> None:
    error = stub(endpoint="https://mirror").circular()
    assert error.message == "Hugging Face at https://mirror redirects in circles"
    assert "HF_ENDPOINT=https://" in error.hint
