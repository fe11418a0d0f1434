"""An HTTP server of one lane whose service time is known: it sleeps on a clock of its own.

python benchmarks/single_lane_server.py SERVICE_MS; prints its port, and serves until it is ended.
"""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Lane:
    """One request at a time, first come first served, each for the same time."""

    def __init__(self, service_s: float) -> None:
        self._service_s, self._free_s = service_s, 0.0
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Return when the request that comes now has been served."""
        with self._lock:
            # The end is counted from the end before, not from when a sleep was over: the lateness
            # of a timer is in one latency and in no other.
            end_s = max(time.perf_counter(), self._free_s) + self._service_s
            self._free_s = end_s
        while (left_s := end_s - time.perf_counter()) > 0:
            time.sleep(left_s)


LANE = Lane(float(sys.argv[1]) / 1e3)


class Handler(BaseHTTPRequestHandler):
    """Answers every request when the lane has served it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Take the body, wait for the lane, answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        LANE.serve()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class Server(ThreadingHTTPServer):
    """A thread for each connection; none is refused."""

    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    """Serve."""
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
