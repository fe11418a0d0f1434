"""The process of ``seatrial serve`` once all is checked: BentoML's supervisor.

    python -m seatrial.serve.runtimes.supervise FOLDER serve service:Seatrial ...

It says when the service is ready. Until then an interruption ends it with code 130.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from seatrial.deployment import Deployment, Server
from seatrial.serve import log
from seatrial.serve.address import is_ready, urls
from seatrial.serve.runtimes.handover import take_signals
from seatrial.serve.runtimes.hangup import hangup
from seatrial.serve.runtimes.held_port import HELD, hold_ports

LOGGER = "bentoml.serve"  # of BentoML's line on where it listens
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def command(folder: Path, deployment: Deployment) -> list[str]:
    """The command that serves a service folder in this module's process."""
    module = "seatrial.serve.runtimes.supervise"
    return [sys.executable, "-m", module, str(folder), *bentoml_words(folder, deployment)]


def bentoml_words(folder: Path, deployment: Deployment) -> list[str]:
    """Arguments of ``bentoml`` that serve a service folder."""
    where = ["service:Seatrial", "--working-dir", str(folder)]
    return ["serve", *where, *options(deployment)]


def options(deployment: Deployment) -> list[str]:
    """Options of ``bentoml serve``: address and drain."""
    server, drain_s = deployment.server, deployment.limits.drain_s
    return [
        "--host", server.host, "--port", str(server.port),
        "--timeout-graceful-shutdown", str(drain_s),
    ]  # fmt: skip


def main(folder: str, *words: str) -> None:
    """Run BentoML's command line.

    Args:
        folder: The service folder.
        words: Arguments of ``bentoml``.
    """
    ready, stopped = threading.Event(), threading.Event()

    def interrupt(number: int, frame: object) -> None:
        stopped.set()
        log.say("info", "interrupted", "interrupted")
        sys.exit(INTERRUPTED)

    # Until circus has its own handler: BentoML takes seconds to import.
    signal.signal(signal.SIGINT, interrupt)
    hangup().listen()
    take_signals()
    server = Deployment.read(Path(folder) / "deployment.toml").server
    log.configure(server.log_format)
    threading.Thread(target=_announce, args=(server, ready), daemon=True).start()

    from bentoml_cli.cli import cli
    from circus.sighandler import SysHandler  # type: ignore[import-untyped]

    hold_ports(server)
    # Our line follows once the service answers; theirs says localhost for 0.0.0.0.
    logging.getLogger(LOGGER).addFilter(lambda record: "BentoServer" not in str(record.msg))
    handle, register = SysHandler.handle_int, SysHandler._register

    def handle_int(self: Any) -> None:
        stopped.set()
        handle(self)

    def register_and_catch_up(self: Any) -> None:
        register(self)
        if stopped.is_set():  # a module that was imported meanwhile has swallowed the end
            handle(self)

    SysHandler.handle_int, SysHandler._register = handle_int, register_and_catch_up
    try:
        cli(words, prog_name="bentoml")
    except SystemExit:
        if stopped.is_set() and not ready.is_set():
            sys.exit(INTERRUPTED)
        raise


def _announce(server: Server, ready: threading.Event) -> None:
    HELD.wait()  # or else another service may answer there
    while not is_ready(server):
        time.sleep(0.1)
    ready.set()
    log.say("info", "ready", f"ready: {urls(server)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
