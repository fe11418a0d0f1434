"""A running service as the subject: what it is asked, and what its refusals become."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seatrial.accuracy.predict import EVALUATION
from seatrial.accuracy.service import RemoteDetector
from seatrial.artifact import Store
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.process import ServiceProcess, free_port

COLOURS = ("red", "green", "blue")


def test_service_that_is_not_there() -> None:
    with pytest.raises(ServiceFailed, match=r"does not answer: .*refused"):
        RemoteDetector(f"http://127.0.0.1:{free_port('127.0.0.1')}")


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://127.0.0.1", "http://"])
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(InvalidConfig, match="is not an http address"):
        RemoteDetector(url)


def test_service_of_another_artifact_is_refused(
    service: ServiceProcess, store: Store, model_file: Callable[..., Path]
) -> None:
    other = import_onnx(store, model_file(names=("red", "green")))
    with (
        contextlib.closing(RemoteDetector(service.url)) as subject,
        pytest.raises(InvalidInput, match=r"serves tiny \(.*\), not tiny \("),
    ):
        subject.check(other)


@contextlib.contextmanager
def scripted(answers: list[tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers /model, and posts by a script; gives its address and what came."""
    asked: list[str] = []
    model = {
        "name": "m", "digest": "d", "labels": COLOURS, "engine": "e", "device": "cpu",
        "precision": "f32", "layout": {"workers": 2, "instances": 3, "threads": 1},
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {}, json.dumps(model).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self._send(*answers.pop(0))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ANSWER = json.dumps({"image": {"width": 4, "height": 3}, "detections": [], "more": 1}).encode()


def test_service_is_asked_by_the_evaluation_rules_and_again_when_it_is_busy() -> None:
    busy = (503, {"Retry-After": "0"}, b"{}")
    with scripted([busy, busy, (200, {}, ANSWER)]) as (url, asked):
        with contextlib.closing(RemoteDetector(url)) as subject:
            assert subject.detect(b"picture", EVALUATION).size.width == 4
            assert subject.concurrency == 7
        assert asked == 3 * ["/detect?confidence=0.001&iou=0.7&max_detections=300&multi_label=true"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((504, {}, b'{"error": {"code": "X", "message": "too slow"}}'), "answers 504: too slow"),
        ((404, {}, b"nothing here"), "answers 404: nothing here"),
        ((200, {}, b"<html>"), "answers something else"),
    ],
)
def test_service_that_answers_something_else(answer: Any, message: str) -> None:
    with (
        scripted([answer]) as (url, _),
        contextlib.closing(RemoteDetector(url)) as subject,
        pytest.raises(ServiceFailed, match=message),
    ):
        subject.detect(b"picture", EVALUATION)
