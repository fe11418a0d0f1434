"""The ports of BentoML's supervisor: its own before anything says that the service is ready.

Between the check of the port and the supervisor's socket BentoML is imported, which takes seconds.
A service that was started meanwhile has the port then, and answers whoever asks there.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any, NoReturn

from seatrial.deployment import Server
from seatrial.errors import PortInUse
from seatrial.serve.address import PORT, not_listening
from seatrial.serve.grpc_port import claim
from seatrial.serve.log import say

HELD = threading.Event()  # this process has the port


def hold_ports(server: Server) -> None:
    """Have the supervisor note that it listens, or end with the line and code of a taken port.

    Args:
        server: The service, whose port of gRPC it claims.
    """
    from circus.sockets import CircusSocket  # type: ignore[import-untyped]

    def bind(self: Any, address: Any) -> None:
        try:
            socket.socket.bind(self, address)
        except OSError as error:
            _end(self, error)

    def listen(self: Any, backlog: int) -> None:
        try:
            socket.socket.listen(self, backlog)
        except OSError as error:
            _end(self, error)
        if not self.is_unix:  # not that of the service
            try:
                claim(server)
            except PortInUse as error:
                _say(error)
        HELD.set()

    CircusSocket.bind, CircusSocket.listen = bind, listen


def _end(of: Any, error: OSError) -> NoReturn:
    if of.is_unix:
        raise error
    _say(not_listening(of.host, of.port, error, PORT))


def _say(failed: PortInUse) -> NoReturn:
    message = f"the service did not start: {failed.message}"
    say("error", "start_failed", message, failed.hint)
    sys.exit(failed.exit_code)
