"""A service that describes itself, and answers images by a script."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = {
    "name": "m", "digest": "d", "labels": ["red", "green", "blue"], "engine": "e", "device": "cpu",
    "precision": "f32", "layout": {"workers": 2, "instances": 3, "threads": 1},
}  # fmt: skip
ANSWER = json.dumps({"image": {"width": 4, "height": 3}, "detections": [], "more": 1}).encode()
OK: tuple[int, dict[str, str], bytes] = (200, {}, ANSWER)
# In place of an answer: the connection ends.
BROKEN = None


@dataclass
class Scripted:
    """A server with a script.

    Attributes:
        url: Its address.
        answers: Status, headers and body of the answers to come; the last one is given again.
        model: The answer to ``GET /model``.
        posted: Paths of the images that came.
        headers: Their headers, by names in lower case.
        described: Number of times that the model was asked for.
        peers: Connections that it was asked on.
    """

    url: str
    answers: list[tuple[int, dict[str, str], bytes] | None]
    model: tuple[int, dict[str, str], bytes] = (200, {}, json.dumps(MODEL).encode())
    posted: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    described: int = 0
    peers: set[Any] = field(default_factory=set)


@contextlib.contextmanager
def scripted(*answers: tuple[int, dict[str, str], bytes] | None) -> Iterator[Scripted]:
    """A server that answers ``/model``, and images by a script."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            running.described += self.path.endswith("/model")
            self._send(running.model)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            running.posted.append(self.path)
            running.headers.append({name.lower(): text for name, text in self.headers.items()})
            running.peers.add(self.client_address)
            self._send(running.answers.pop(0) if len(running.answers) > 1 else running.answers[0])

        def _send(self, answer: tuple[int, dict[str, str], bytes] | None) -> None:
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Quiet: clients leave."""

    server = Server(("127.0.0.1", 0), Handler)
    running = Scripted(f"http://127.0.0.1:{server.server_port}", list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
