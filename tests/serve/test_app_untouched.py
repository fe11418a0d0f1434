"""A server process while it gets hostile requests: it opens no file and no connection for them."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.serve.address import free_port
from seatrial.system.children import end

# In the server process: what it does once it is ready, as Python's own audit events tell it.
WATCHED = """
import os
import sys

watching = False
events = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
kinds = ("open", "os", "socket", "subprocess", "shutil", "urllib", "ftplib", "glob")

def watch(event, arguments):
    if watching and event.split(".")[0] in kinds:
        line = f"{event} {arguments!r}"[:300].encode("utf-8", "replace").replace(bytes([10]), b" ")
        os.write(events, line + bytes([10]))

sys.addaudithook(watch)

# What follows is the server.
from seatrial.serve.runtimes import alone, notify

def ready(state):
    global watching
    watching = state == notify.READY

notify.notify = ready
alone.main(sys.argv[2])
"""
SECRET = "/etc/hostname"
ADDRESS = "http://127.0.0.1:9/secret.jpg"
# Facts of the process that it looks up from time to time.
OWN = ("open ('/proc/self/",)

pytestmark = pytest.mark.usefixtures("time_limit")


def form(name: str) -> tuple[str, bytes]:
    head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    return "multipart/form-data; boundary=b", b"--b\r\n" + head.encode() + b"x\r\n--b--\r\n"


def infer(**changes: Any) -> bytes:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["eA=="], **changes}
    return json.dumps({"inputs": [tensor]}).encode()


def encoded(text: str) -> list[str]:
    return [base64.b64encode(text.encode()).decode()]


HOSTILE: list[tuple[str, str, bytes, dict[str, str]]] = [
    *(
        ("GET", path, b"", {})
        for path in (
            "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", f"//{SECRET}", "/static/../x",
            "/v2/models/..%2f..%2fetc%2fpasswd", "/v2/models/tiny/versions/../../x",
            f"/v2/models/{SECRET.replace('/', '%2F')}/config", "/openapi.json/../../x",
            f"/model?file={SECRET}", f"/metrics?name[]={SECRET}",
        )
    ),
    *(
        ("POST", path, body, {"Content-Type": kind})
        for path in ("/detect", "/detect.jpg")
        for kind, body in (
            form(SECRET), form("../../etc/passwd"), form(ADDRESS), ("image/jpeg", SECRET.encode()),
            ("image/svg+xml", f'<svg><image href="{ADDRESS}"/></svg>'.encode()),
            ("image/jpeg", ADDRESS.encode()), ("text/x-url", ADDRESS.encode()),
            ("application/json", json.dumps({"url": ADDRESS, "path": SECRET}).encode()),
        )
    ),
    ("POST", f"/detect?url={ADDRESS}", b"x", {}),
    ("POST", f"/detect?path={SECRET}", b"x", {}),
    ("POST", "/v2/models/tiny/infer", infer(data=encoded(SECRET)), {}),
    ("POST", "/v2/models/tiny/infer", infer(data=encoded(ADDRESS)), {}),
    ("POST", "/v2/models/tiny/infer", infer(parameters={"shared_memory_region": SECRET}), {}),
    ("POST", "/v2/repository/models/tiny/load", b"{}", {}),
    ("POST", "/v2/systemsharedmemory/region/x/register", b'{"key": "/x", "byte_size": 8}', {}),
    ("GET", "/model", b"", {"X-Original-URL": SECRET, "X-Forwarded-Host": "127.0.0.1:9"}),
    ("GET", "/model", b"", {"traceparent": SECRET, "tracestate": ADDRESS}),
]  # fmt: skip


@pytest.fixture
def watched(tiny_artifact: Artifact, tmp_path: Path) -> Iterator[tuple[int, Any, Path]]:
    port = free_port("127.0.0.1")
    deployment = Deployment(
        str(tiny_artifact.path), engine="null", layout=CoreLayout(1, 1, 1, wide=False),
        server=Server(port=port, drain_notice_s=0),
    )  # fmt: skip
    file = tmp_path / "deployment.toml"
    file.write_text(deployment.to_toml())
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(tmp_path / "events"), str(file)],
        env=os.environ, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready:"):
            break
    yield port, process, tmp_path / "events"
    end(process, grace_s=40)
    process.stderr.close()


def ask(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        said = answer.read()
        assert b"Traceback" not in said
        assert b"root:" not in said
        return answer.status
    finally:
        connection.close()


def test_no_request_has_a_file_or_a_connection_opened(
    watched: tuple[int, Any, Path], photo: bytes
) -> None:
    port, process, file = watched
    # The first of each kind imports what it needs: for its kind, not for its path, and once.
    for path in ("/detect", "/detect.jpg"):
        assert ask(port, "POST", path, photo, {}) == 200
    for one in HOSTILE:
        ask(port, *one)
    before = file.stat().st_size
    statuses = [ask(port, *one) for one in HOSTILE]
    assert 500 not in statuses
    assert statuses.count(200) <= 5
    process.terminate()
    process.wait(60)
    text = file.read_text()
    assert not any(word in text for word in ("passwd", "hostname", "secret"))
    reaching = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "subprocess", "os.exec")
    assert [one for one in text.splitlines() if one.startswith(reaching)] == []
    later = text.encode()[before:].decode().splitlines()
    assert [one for one in later if one.startswith("open") and not one.startswith(OWN)] == []


def test_the_watch_sees_what_a_process_does(tmp_path: Path) -> None:
    """It is no proof where it cannot fail."""
    program = WATCHED.partition("# What follows")[0] + (
        f"watching = True\nopen({SECRET!r}).close()\n"
        "import socket\n"
        "socket.socket().connect_ex(('127.0.0.1', 9))\n"
    )
    events = tmp_path / "events"
    subprocess.run([sys.executable, "-c", program, str(events)], check=True)
    assert f"open ('{SECRET}'" in events.read_text()
    assert "socket.connect " in events.read_text()
