"""A service that does nothing: what a load on it finds is the limit of the client.

The server must cost much less than the client. The kernel drops the bodies, without a copy of them:
recv(2) with MSG_TRUNC, see tcp(7). Its buffers hold a whole request, so that the client hands one
over in one call. It is a process of its own, of system calls alone.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from seatrial.errors import GeneratorFailed
from seatrial.system.children import end, same_code

ANSWER = b'{"detections":[],"timing_ms":{"total":0.0}}'
HEAD_BYTES = 64 * 1024  # longest head of a request
READ_BYTES = 4096  # at a time, of what may be a head
DROPPED_BYTES = 4 * 2**20  # at a time; on Linux nothing is written to them
BUFFER_BYTES = 4 * 2**20  # of the kernel for a connection; it gives what net.core.rmem_max allows
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
DROP = socket.MSG_TRUNC if sys.platform == "linux" else 0
END_S = 5.0


class NullServer(msgspec.Struct, frozen=True):
    """A null server that runs.

    Attributes:
        port: Port on the loopback address.
        pid: Id of its process.
    """

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def null_server() -> Iterator[NullServer]:
    """A null server as a child process, for as long as the block lasts.

    It ends with this process, however that ends: the pipe to it closes.

    Raises:
        GeneratorFailed: It did not start.
    """
    process = subprocess.Popen(
        same_code(START), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101
    with process.stdin, process.stdout:
        try:
            said = process.stdout.readline()
            if not said:
                raise GeneratorFailed(
                    f"the null server did not start (exit code {process.wait()})",
                    hint="its error is printed above",
                )
            yield NullServer(int(said), process.pid)
        finally:
            end(process, grace_s=END_S)


START = "from seatrial.load.null_server import main; main()"


def main() -> None:
    """Listen at a free port, print it, and serve until standard input ends."""
    with socket.socket() as listener:
        # Connections take over the size; set later, it would not change the window's scale.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        listener.setblocking(False)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        serve(listener, sys.stdin.fileno())


def serve(listener: socket.socket, until: int) -> None:
    """Answer every request.

    Args:
        listener: Socket that listens, and does not block.
        until: Descriptor that ends the server when it is at its end.
    """
    connections: dict[int, NullConnection] = {}
    # Both take and give the same numbers: EPOLLIN is POLLIN.
    waiting = select.epoll() if sys.platform == "linux" else select.poll()
    room = bytearray(DROPPED_BYTES)
    waiting.register(listener, select.POLLIN)
    waiting.register(until, select.POLLIN)
    while True:
        for number, _ in waiting.poll():
            if number == until:
                return
            if number == listener.fileno():
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    line = listener.accept()[0]
                    line.setblocking(False)
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[line.fileno()] = NullConnection(line)
                    waiting.register(line, select.POLLIN)
                continue
            one = connections[number]
            try:
                stays = one.read(room)
            except BlockingIOError:
                continue
            except ConnectionError:
                stays = False
            if not stays:
                del connections[number]
                one.line.close()


class NullConnection:
    """One connection: heads are read, bodies are counted.

    Args:
        line: Socket that does not block.
    """

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self._head = b""
        self._left = 0  # bytes of a body that are still to come

    def read(self, room: bytearray) -> bool:
        """Take what has come, and answer where a request is at its end.

        Args:
            room: Bytes for what is dropped.

        Returns:
            Whether the connection stays.
        """
        if not self._left:
            came = self.line.recv(READ_BYTES)
            if not came:
                return False
            self._head += came
            return self._heads()
        count = self.line.recv_into(room, min(self._left, len(room)), DROP)
        self._left -= count
        return bool(count) and (bool(self._left) or self._answer(b"200 OK", ANSWER))

    def _heads(self) -> bool:
        """Take the heads that have come, and begin with the body of the last one."""
        while not self._left:
            head, end_of_head, rest = self._head.partition(b"\r\n\r\n")
            if not end_of_head:
                return len(head) <= HEAD_BYTES
            if CHUNKED.search(head):
                self._answer(b"411 Length Required", b"")
                return False
            found = LENGTH.search(head)
            length = int(found[1]) if found else 0
            self._left, self._head = max(0, length - len(rest)), rest[length:]
            if not self._left and not self._answer(b"200 OK", ANSWER):
                return False
        return True

    def _answer(self, status: bytes, body: bytes) -> bool:
        """Send an answer; false where the client does not read its answers."""
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        try:
            sent = self.line.send(head % (status, len(body)) + body)
        except BlockingIOError:
            return False
        return sent > len(body)
