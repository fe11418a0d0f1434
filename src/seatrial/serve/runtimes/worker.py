"""A server process that the supervisor starts; it loads nothing of BentoML.

    python -m seatrial.serve.runtimes.worker SERVICE.PY FD NUMBER BACKLOG FAILED_STARTS

It listens on a socket that it inherits. ``service.py`` of the service folder is run, as BentoML's
own worker does: what somebody added to it holds here too.
"""

from __future__ import annotations

import logging
import os
import runpy
import socket
import sys

from seatrial.errors import SeatrialError
from seatrial.serve.log import say
from seatrial.serve.parent import end_with_parent
from seatrial.serve.runtimes import starts
from seatrial.serve.runtimes.served import OwnWorker, Served, become_worker
from seatrial.serve.runtimes.server import serve

VARIABLE = "Seatrial"  # of service.py


def main(service: str, fd: str, number: str, backlog: str, failed_starts: str) -> None:
    """Serve until a signal ends it.

    Args:
        service: Path of ``service.py``.
        fd: Descriptor of the listening socket.
        number: The process's number, from 1.
        backlog: Connections that may wait to be taken.
        failed_starts: Failed starts in a row that end the supervisor.
    """
    end_with_parent(starts.supervisor() or os.getppid())
    index, most = int(number) - 1, int(failed_starts)
    try:
        with starts.counted(index, most) as serves:
            become_worker(OwnWorker(index, most))
            served: Served = runpy.run_path(service)[VARIABLE]
            listener = socket.socket(fileno=int(fd))
            serve(served, listener, backlog=int(backlog), on_ready=serves)
    except SeatrialError as error:
        message = f"a server process did not start: {error.message}"
        say("error", "worker_start_failed", message, error.hint)
        sys.exit(error.exit_code)
    except Exception:  # its traceback is a part of the log, whatever form that has
        logging.getLogger(__name__).exception("a server process failed")
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
