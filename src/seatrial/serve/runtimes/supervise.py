"""The process of ``seatrial serve`` once all is checked: BentoML's supervisor.

    python -m seatrial.serve.runtimes.supervise HOST PORT serve service:Seatrial ...

It says when the service is ready. Until then an interruption ends it with code 130.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from seatrial.deployment import Deployment, Server
from seatrial.serve import process

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def command(folder: Path, deployment: Deployment) -> list[str]:
    """The command that serves a folder, as `process.command` does, in this module's process."""
    python, _, _, *words = process.command(folder, deployment)
    server = deployment.server
    address = [server.host, str(server.port)]
    return [python, "-m", "seatrial.serve.runtimes.supervise", *address, *words]


def main(host: str, port: str, *words: str) -> None:
    """Run BentoML's command line.

    Args:
        host: Address of the service.
        port: Port of the service.
        words: Arguments of ``bentoml``.
    """

    def interrupt(number: int, frame: object) -> None:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)

    # Until circus has its own handler: BentoML takes seconds to import.
    signal.signal(signal.SIGINT, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    ready, stopped = threading.Event(), threading.Event()
    server = Server(host, int(port))
    threading.Thread(target=_announce, args=(server, ready), daemon=True).start()

    from bentoml_cli.cli import cli
    from circus.sighandler import SysHandler  # type: ignore[import-untyped]

    handle = SysHandler.handle_int

    def handle_int(self: Any) -> None:
        stopped.set()
        handle(self)

    SysHandler.handle_int = handle_int
    try:
        cli(words, prog_name="bentoml")
    except SystemExit:
        if stopped.is_set() and not ready.is_set():
            sys.exit(INTERRUPTED)
        raise


def _announce(server: Server, ready: threading.Event) -> None:
    while not process.is_ready(server):
        time.sleep(0.1)
    ready.set()
    sys.stderr.write(f"ready: {process.url(server)}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
