"""A service that sends any bytes as its answers, also without end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%s\r\n"
CHUNK = b"%x\r\n%s\r\n" % (65536, b" " * 65536)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def answer(status: int, body: bytes, headers: bytes = b"") -> bytes:
    """A whole answer; each header ends with a line's end."""
    return HEAD % (status, b"Content-Length: %d\r\n%s" % (len(body), headers)) + body


@contextlib.contextmanager
def raw_service(answers: Callable[[bytes], Iterable[bytes]]) -> Iterator[str]:
    """A server on bare sockets; gives its address.

    Args:
        answers: Takes method and path of a request, gives the bytes of its answer in parts. What
            has no end is sent until the client leaves.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    lines: list[socket.socket] = []

    def serve(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            while asked := _request(line):
                for part in answers(asked):
                    line.sendall(part)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                lines.append(line)
                threads.append(threading.Thread(target=serve, args=(line,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for line in lines:  # clients keep theirs open
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _request(line: socket.socket) -> bytes:
    """Method and path of the next request, which is read to its end; empty where none comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = line.recv(65536)
        if not got:
            return b""
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    named = (text.split(b":")[1] for text in head.split(b"\r\n") if b"ontent-" in text[:8])
    lengths = [int(text) for text in named if text.strip().isdigit()]
    left = sum(lengths) - len(body)
    while left > 0:
        got = line.recv(65536)
        if not got:
            return b""
        left -= len(got)
    return b" ".join(head.split(b" ")[:2])
