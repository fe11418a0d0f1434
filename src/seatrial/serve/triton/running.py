"""A Triton server as a child process: what it says, when it is ready, how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from seatrial.errors import ServiceFailed
from seatrial.progress import Progress, silent
from seatrial.serve.triton.container import Container
from seatrial.serve.triton.server import Ports

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LAST_LINES = 200
LOOK_S, SAY_S = 0.1, 5.0
LEAVE_S = 10.0  # after the drain: the server unloads its models
# Said on every machine without a GPU, as errors.
HARMLESS = ("NVML", "DCGM", "CudaDriverHelper", "Unable to allocate pinned", "no CUDA-capable")
REASON = re.compile(r"failed to load '([^']*)' version \d+: (?:\w+: )?(.*)")


class RunningTriton:
    """A server in a session of its own, which ends when this process does, however that ends.

    Args:
        command: See `seatrial.serve.triton.server.server_command` and `Container`.
        environment: All variables of the server.
        ports: Where it listens.
        output: Takes what the server says but for `HARMLESS` lines.
        drain_s: How long requests that run may take at its end.
        container: What the command runs; None where it is the server itself.

    Attributes:
        process: The server.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        ports: Ports,
        output: IO[str],
        *,
        drain_s: float,
        container: Container | None = None,
    ) -> None:
        self._container = container
        self._ports = ports
        self._output = output
        self._drain_s = drain_s
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        end_with = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

        def begin() -> None:
            if end_with is not None:
                end_with(PR_SET_PDEATHSIG, signal.SIGTERM)

        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            # A container ends with its standard input.
            stdin=subprocess.DEVNULL if container is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=begin,  # no other thread runs yet
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self.process.stdout:
            self._said.append(line)
            if not any(word in line for word in HARMLESS):
                # Who reads no more of a full pipe would stop the server.
                with contextlib.suppress(OSError):
                    self._output.write(line)
                    self._output.flush()

    def wait_ready(
        self,
        within_s: float,
        on_progress: Progress = silent,
        stopping: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Return once the server and its models are ready.

        Args:
            within_s: How long loading may take.
            on_progress: Told from time to time that it still loads.
            stopping: Whether the server was told to end meanwhile.

        Returns:
            False where it ended because it was told to.

        Raises:
            ServiceFailed: It ended, or was not ready in time; the message has the reason.
        """
        begin = said = time.monotonic()
        while (now := time.monotonic()) - begin < within_s:
            if self.process.poll() is not None:
                self._reader.join()
                if stopping():
                    return False
                raise ServiceFailed(f"Triton did not start: {self._reason()}", hint=self._hint())
            if is_ready(self._ports):
                return True
            if now - said >= SAY_S:
                said = now
                on_progress(f"loading for {now - begin:.0f} s")
            time.sleep(LOOK_S)
        raise ServiceFailed(f"Triton was not ready within {within_s:g} s: {self._reason()}")

    def _reason(self) -> str:
        """Why a model did not load; else the last lines."""
        found = [match for line in self._said if (match := REASON.search(line))]
        if found:
            return "; ".join(f"{one[1]}: {one[2].partition(chr(10))[0]}" for one in found)
        return "\n" + "".join(list(self._said)[-10:])

    def _hint(self) -> str:
        text = "".join(self._said)
        if "--no-deps -r" in text:
            return "the Python that runs the models lacks a package: see docs/guides/triton.md"
        return "see what the server says above"

    def lives(self, within_s: float) -> bool:
        """Wait for its end for a while; False where it ended. Signals are handled meanwhile."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def tell(self, number: int) -> None:
        """Send it a signal. SIGHUP, which it ignores, becomes SIGTERM: the terminal has closed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def end(self) -> int:
        """Have the server finish what runs, and end; kill what is left after that.

        Returns:
            Its exit code.
        """
        self.tell(signal.SIGTERM)
        return self.leave()

    def leave(self) -> int:
        """Wait for the end of a server that was told to end."""
        try:
            self.process.wait(self._drain_s + LEAVE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill_group()
            if self._container is not None:
                self._container.remove()
        code = self.process.wait()
        self._reader.join()  # all that could write to the pipe is gone
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        self.process.stdout.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        return code

    def _kill_group(self) -> None:
        """End what is left of its session: the server, or processes of models that hang."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def is_ready(ports: Ports) -> bool:
    """Whether the server and all of its models are ready."""
    connection = http.client.HTTPConnection(ports.host, ports.http, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
