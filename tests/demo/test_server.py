"""The policy that keeps a page from other hosts."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.request
from typing import Any

from seatrial.demo.server import OwnHostOnly


def sent(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What goes out when an application sends some messages."""
    out: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def send(message: dict[str, Any]) -> None:
        out.append(message)

    asyncio.run(OwnHostOnly(app)({}, None, send))
    return out


def test_every_response_has_the_policy() -> None:
    start, body = sent(
        {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"x")]},
        {"type": "http.response.body", "body": b"page"},
    )
    headers = dict(start["headers"])
    assert headers[b"etag"] == b"x"
    assert headers[b"referrer-policy"] == b"no-referrer"
    rules = dict(
        rule.split(" ", 1) for rule in headers[b"content-security-policy"].decode().split("; ")
    )
    assert rules["default-src"].split()[0] == "'self'"
    assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'self'"}
    assert rules["object-src"] == "'none'"
    assert not any("http" in rule or "*" in rule for rule in rules.values())
    assert body == {"type": "http.response.body", "body": b"page"}


def test_other_messages_are_left_alone() -> None:
    (message,) = sent({"type": "websocket.accept"})
    assert message == {"type": "websocket.accept"}
    (bare,) = sent({"type": "http.response.start", "status": 204})
    assert len(bare["headers"]) == 2


SERVE = """
import sys
from seatrial.demo.server import run
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})
run(app, "127.0.0.1", int(sys.argv[1]), lambda: print("ready", flush=True))
print("closed", flush=True)
"""


def test_it_serves_until_it_is_interrupted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"  # it can be opened from here on
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60) as page:
            assert page.read() == b"page"
            assert "content-security-policy" in page.headers
        process.send_signal(2)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, errors) == (0, "closed\n", "")
