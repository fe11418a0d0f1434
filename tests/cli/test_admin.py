"""Where a command goes to a running service, and the answers of what is no admin port."""

from __future__ import annotations

import copy
import http.server
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raw_service import CHUNK, CHUNKED, HEAD, raw_service
from seatrial.artifact import MANIFEST
from seatrial.cli.admin import ReloadAnswer, ServiceOptions, StatusAnswer, ask_service
from seatrial.cli.credentials import TOKEN
from seatrial.deployment import Server
from seatrial.errors import InvalidConfig, NotSwapped, ServiceFailed, Unauthorized
from seatrial.serve.address import free_port
from seatrial.serve.control import SUPERVISOR, ControlServer, socket_name

WORD = "a-token-of-this-test"
STATUS = {"processes": [], "canary": None}
ask = partial(ask_service, kind=StatusAnswer)


class Asked:
    """A service that notes its commands.

    Attributes:
        commands: Those that came, with their JSON.
        refusal: Raised in place of an answer.
    """

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.refusal: Exception | None = None

    def __call__(self, command: str, body: dict[str, Any]) -> Any:
        self.commands.append((command, body))
        if self.refusal is not None:
            raise self.refusal
        return STATUS


@pytest.fixture
def elsewhere() -> Iterator[Callable[[int, bytes], str]]:
    """Starts a server that is none of ours; called with its answer, gives its address."""
    running: list[http.server.HTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *given: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1", "no host and port"),
        ("http://127.0.0.1:99999", "Port out of range 0-65535"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://:3900", "no host and port"),
        ("", "no host and port"),
        ("https://127.0.0.1:3900", "not the address of an admin port"),
        ("ftp://x", "not the address of an admin port"),
        ("ftp://127.0.0.1:3900", "not the address of an admin port"),
        ("http://127.0.0.1:3900/admin/reload", "not the address of an admin port"),
    ],
)
def test_what_is_no_address(url: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said) as caught:
        ask("GET /admin/status", {}, None, ServiceOptions(url=url))
    assert "http://" in caught.value.hint


@pytest.mark.parametrize("port", [99999, -1])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(InvalidConfig, match=rf"--port .* {port}|--port must be"):
        ask("GET /admin/status", {}, None, ServiceOptions(port=port))


def test_two_services_are_named(tmp_path: Path) -> None:
    url = "http://127.0.0.1:3900"
    for deployment, port in ((tmp_path / "deployment.toml", None), (None, 3000)):
        with pytest.raises(InvalidConfig, match="names a service, and so does"):
            ask("GET /admin/status", {}, deployment, ServiceOptions(url=url, port=port))


@pytest.mark.parametrize("host", ["a" * 80, "none.invalid"])
def test_no_host_of_that_name(host: str) -> None:
    with pytest.raises(ServiceFailed, match="no service takes commands"):
        ask("GET /admin/status", {}, None, ServiceOptions(url=f"http://{host}:3900"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"hello": "world"}'),
        (200, b"[1, 2]"),
        (200, b"<html>"),
        (404, b'{"error": {"code": "Http404", "message": "Not Found"}}'),
        (405, b'{"detail": "Method Not Allowed"}'),
        (501, b"Unsupported method"),
    ],
)
def test_something_else_answers(
    elsewhere: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    options = ServiceOptions(url=elsewhere(status, body))
    with pytest.raises(ServiceFailed, match="no service takes commands at http") as caught:
        ask("POST /admin/reload", {"model": "x"}, None, options)
    assert "ADMIN_PORT" in caught.value.hint
    named = "what answers there is not an admin port" in caught.value.message
    assert named == (status in (404, 405))  # as the port for requests says


SWAPPED = {
    "result": "swapped", "model": "b", "digest": "d", "before": {"model": "a", "digest": "c"},
    "rehearsal": {"images": 4, "comparison": {"agreement": {"share": 0.5}}},
}  # fmt: skip
CANARY = {
    "model": "b", "digest": "d", "share": 0.05, "shadow": False, "failure": "", "images": {},
    "requests": {"live_answered": 3}, "boxes": {}, "agreement": None, "seconds": {"live": 0.3},
}  # fmt: skip
RUNNING = {"processes": [{"pid": 7, "name": "a", "digest": "d"}], "canary": CANARY}
HUGE = int("9" * 400)


def changed(told: Any, path: str, value: Any) -> Any:
    """A copy with another value at a path: ``canary.share``."""
    first, _, rest = path.partition(".")
    key = int(first) if first.isdigit() else first
    copied = copy.copy(told)
    copied[key] = changed(told[key], rest, value) if rest else value
    return copied


@pytest.mark.parametrize(
    ("told", "path", "value"),
    [
        (SWAPPED, "result", "x"),
        (SWAPPED, "model", 1),
        (SWAPPED, "before", []),
        (SWAPPED, "before", None),
        (SWAPPED, "rehearsal", 7),
        (SWAPPED, "rehearsal.images", HUGE),
        (SWAPPED, "rehearsal.comparison", None),
        (SWAPPED, "rehearsal.comparison", {}),
        (SWAPPED, "rehearsal.comparison.agreement", 1),
        (SWAPPED, "rehearsal.comparison.agreement.share", "x"),
        (RUNNING, "processes", 5),
        (RUNNING, "processes.0", None),
        (RUNNING, "processes.0.pid", HUGE),
        (RUNNING, "processes.0.digest", 1),
        (RUNNING, "canary", "x"),
        (RUNNING, "canary.share", 1e308),
        (RUNNING, "canary.requests", []),
        (RUNNING, "canary.requests.live_answered", None),
        (RUNNING, "canary.seconds", {"live": "x"}),
        (RUNNING, "canary.agreement", HUGE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_of_other_types(
    elsewhere: Callable[[int, bytes], str], told: dict[str, Any], path: str, value: Any
) -> None:
    kind: Any = StatusAnswer if told is RUNNING else ReloadAnswer
    right = ServiceOptions(url=elsewhere(200, json.dumps(told).encode()))
    assert ask_service("GET /x", {}, None, right, kind=kind)[0] == told
    wrong = ServiceOptions(url=elsewhere(200, json.dumps(changed(told, path, value)).encode()))
    with pytest.raises(ServiceFailed, match="no service takes commands at http") as caught:
        ask_service("GET /x", {}, None, wrong, kind=kind)
    assert "ADMIN_PORT" in caught.value.hint


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize(
    "answers",
    [
        lambda: itertools.chain([HEAD % (200, CHUNKED)], itertools.repeat(CHUNK)),
        lambda: itertools.chain([HEAD % (500, b"")], itertools.repeat(b" " * 65536)),
        lambda: itertools.repeat(CONTINUE),
        lambda: [HEAD % (200, b"Content-Length: 5\r\n"), b"9" * 5],
        lambda: [HEAD % (200, b"Content-Length: 5000\r\n"), b"9" * 5000],
        lambda: [HEAD % (200, b"Content-Length: 5000\r\n"), b"[" * 5000],
    ],
    ids=["body", "error", "continue", "number", "digits", "brackets"],
)
def test_an_answer_without_end_and_one_that_cannot_be_decoded(
    answers: Callable[[], Iterable[bytes]],
) -> None:
    with (
        raw_service(lambda asked: answers()) as url,
        pytest.raises(ServiceFailed, match="no service takes commands at http"),
    ):
        ask("GET /admin/status", {}, None, ServiceOptions(url=url))


def test_an_answer_of_json_that_says_why(elsewhere: Callable[[int, bytes], str]) -> None:
    options = ServiceOptions(url=elsewhere(500, b'{"detail": "broken"}'))
    with pytest.raises(ServiceFailed, match="answers 500"):
        ask("GET /admin/status", {}, None, options)


def test_a_token_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, service = free_port("127.0.0.1"), Asked()

    def check(headers: Any) -> None:
        if (b"authorization", f"Bearer {WORD}".encode()) not in headers:
            raise Unauthorized("the request has no token")

    ControlServer(("127.0.0.1", port), service, check)
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(Unauthorized) as caught:
        ask("GET /admin/status", {}, None, ServiceOptions(url=url))
    assert caught.value.exit_code == 2
    assert "--token-file" in caught.value.hint
    file = tmp_path / "tokens"
    file.write_text(f"{WORD}\n")
    options = ServiceOptions(url=url, token_file=file)
    assert ask("GET /admin/status", {}, None, options)[0] == STATUS
    monkeypatch.setenv(TOKEN, f"{WORD}\n")
    assert ask("GET /admin/status", {}, None, ServiceOptions(url=url))[0] == STATUS
    monkeypatch.setenv(TOKEN, "ключ")
    with pytest.raises(InvalidConfig, match="cannot be one"):
        ask("GET /admin/status", {}, None, ServiceOptions(url=url))
    service.refusal = NotSwapped("there is a canary", hint="promote or abandon it first")
    with pytest.raises(NotSwapped, match="there is a canary"):
        ask("POST /admin/reload", {}, None, options)


def test_who_gives_up_is_told_what_becomes_of_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seatrial.serve.control.ask", interrupted)
    options = ServiceOptions(url="http://127.0.0.1:3900")
    with pytest.raises(KeyboardInterrupt):
        ask("POST /admin/reload", {}, None, options)
    said = capsys.readouterr().err
    assert "drops the change unless it is switching already" in said
    assert "seatrial canary status" in said
    with pytest.raises(KeyboardInterrupt):
        ask("GET /admin/status", {}, None, options)
    assert capsys.readouterr().err == ""


def test_a_path_means_the_same_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has another working folder. A name in the store is none, whatever lies there."""
    port, service = free_port("127.0.0.1"), Asked()
    folder = tmp_path / f"{SUPERVISOR}x"
    for path in (folder, tmp_path / "work" / "own", tmp_path / "work" / "plates"):
        path.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "own" / MANIFEST).touch()
    (tmp_path / "work" / "a.onnx").touch()
    ControlServer(folder / socket_name(Server(port=port)), service)
    given = ("own", "a.onnx", "./own", "../elsewhere", "plates", "other", "~/x")
    for model in given:
        ask("POST /admin/canary", {"model": model}, None, ServiceOptions(port=port))
    here = str(tmp_path / "work")
    assert [body["model"] for _, body in service.commands] == [
        f"{here}/own", f"{here}/a.onnx", f"{here}/own", f"{here}/../elsewhere", "plates", "other",
        os.path.expanduser("~/x"),
    ]  # fmt: skip
    deployment = tmp_path / "deployment.toml"
    deployment.write_text(f'model = "x"\n[server]\nport = {port}\n')
    assert ask("GET /admin/status", {}, deployment, None)[0] == STATUS
    assert service.commands[-1] == ("GET /admin/status", {})
