"""A server as a child process, where the server is a program of a few lines."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from child_processes import gone
from seatrial.errors import ServiceFailed
from seatrial.serve.address import free_port
from seatrial.serve.triton.running import RunningTriton
from seatrial.serve.triton.server import Ports

HOST = "127.0.0.1"
LOADED = "E1129 model_lifecycle.cc:642] \"failed to load 'tiny' version 1: Internal: no file\\n\""
# Answers 200 to anything, as a server that is ready; ends with code 0 on SIGTERM.
READY = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words): pass
print("Failed to initialize NVML", flush=True)
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# A child of it that hangs, and ignores the signal.
HANGING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def started(code: str, *, output: IO[str] | None = None, drain_s: float = 1.0) -> RunningTriton:
    ports = Ports(HOST, free_port(HOST), 0, 0)
    command = [sys.executable, "-c", code, str(ports.http)]
    return RunningTriton(command, os.environ, ports, output or io.StringIO(), drain_s=drain_s)


def test_a_server_that_answers_is_ready_and_ends_when_told() -> None:
    output = io.StringIO()
    one = started(READY, output=output)
    assert one.wait_ready(60)
    assert one.end() == 0
    # Said on every machine without a GPU.
    assert output.getvalue() == "serving\n"


def test_the_end_of_a_terminal_is_its_end_as_well() -> None:
    """Triton ignores SIGHUP, and would go on without anyone who looks after it."""
    one = started(READY)
    assert one.wait_ready(60)
    one.tell(signal.SIGHUP)
    assert one.leave() == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (LOADED, "Triton did not start: tiny: no file"),
        ("something else", "Triton did not start: \nsomething else"),
    ],
)
def test_one_that_ends_says_why(said: str, reason: str) -> None:
    one = started(f"print({said!r})")
    with pytest.raises(ServiceFailed) as caught:
        one.wait_ready(60)
    assert caught.value.message.startswith(reason)
    assert one.end() == 0


def test_one_that_was_told_to_end_is_no_error() -> None:
    one = started("pass")
    assert not one.wait_ready(60, stopping=lambda: True)
    one.end()


def test_a_missing_package_is_in_the_hint() -> None:
    one = started("print('ImportError: pip install --no-deps -r tiny/requirements.txt')")
    with pytest.raises(ServiceFailed) as caught:
        one.wait_ready(60)
    assert "lacks a package" in caught.value.hint
    one.end()


def test_one_that_is_never_ready_is_an_error_after_a_while() -> None:
    one = started("import time; time.sleep(600)")
    told: list[str] = []
    with pytest.raises(ServiceFailed, match=r"was not ready within 0\.2 s"):
        one.wait_ready(0.2, lambda what, *rest, **more: told.append(what))
    assert one.end() < 0


def test_what_hangs_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    monkeypatch.setattr("seatrial.serve.triton.running.LEAVE_S", 0.0)
    output = io.StringIO()
    one = started(HANGING, output=output, drain_s=0.1)
    until(lambda: output.getvalue().endswith("\n"))
    child = int(output.getvalue())
    assert Path(f"/proc/{child}").exists()
    assert one.end() == -9
    assert gone(child)


def test_what_cannot_be_written_does_not_stop_the_server() -> None:
    """Nobody else reads what it says: it would wait as soon as the pipe is full."""
    with open("/dev/full", "w") as full:
        one = started("print('word ' * 100_000, *range(10_000), sep='\\n')", output=full)
        assert one.process.wait(60) == 0
        assert one.end() == 0
        with contextlib.suppress(OSError):
            full.close()
