"""A service folder from a deployment, and a process from a service folder."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import NotWritable, PortInUse, ServiceFailed
from seatrial.system.extras import require

SERVICE_PY = '''"""A Seatrial service. Start it with: bentoml serve ."""

from pathlib import Path

from seatrial.serve.runtimes.bento import service

Seatrial = service(Path(__file__).parent / "deployment.toml")
'''
PARENT = "SEATRIAL_PARENT"  # pid that the service ends with, however that ends
STARTUP_FAILED = "startup failed"  # uvicorn's words
BENTOFILE = """service: "service:Seatrial"
include:
  - "service.py"
  - "deployment.toml"
  - "model/*"
python:
  packages:
    - "seatrial[serve,openvino,onnxruntime]"
"""


def write_service(folder: Path, artifact: Artifact, deployment: Deployment) -> Path:
    """Write a folder that ``bentoml serve`` starts: service.py, deployment.toml, the model.

    Args:
        folder: Made if it is not there; an older service folder in its place is replaced.
        artifact: Copied into the folder, so that the folder stands alone.
        deployment: Written with the model's path in the folder.

    Returns:
        The folder.

    Raises:
        ServiceFailed: The folder holds something else.
        NotWritable: It cannot be made or written.
    """
    try:
        if folder.exists() and not (folder / "service.py").is_file() and any(folder.iterdir()):
            raise ServiceFailed(f"{folder} holds something else", hint="name an empty folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".service-", dir=folder.parent))
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        shutil.copytree(artifact.path, staged / "model", copy_function=_link_or_copy)
        (staged / "service.py").write_text(SERVICE_PY)
        (staged / "bentofile.yaml").write_text(BENTOFILE)
        written = msgspec.structs.replace(deployment, model="model")
        (staged / "deployment.toml").write_text(written.to_toml())
        staged.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)
    except (OSError, shutil.Error) as error:
        raise _not_writable(folder, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _not_writable(folder: Path, error: OSError) -> NotWritable:
    return NotWritable(
        f"the service folder {folder} cannot be written: {error.strerror or error}",
        hint="name another folder, or free some space",
    )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)  # artifacts are immutable: two names for one file are safe
    except OSError:
        shutil.copy2(source, target)


def command(folder: Path, deployment: Deployment) -> list[str]:
    """The command that serves a folder from `write_service`."""
    server = deployment.server
    return [
        sys.executable, "-m", "bentoml", "serve", "service:Seatrial",
        "--working-dir", str(folder),
        "--host", server.host, "--port", str(server.port),
        "--timeout-graceful-shutdown", str(deployment.limits.drain_s),
    ]  # fmt: skip


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Environment of a service process: the caller's, without BentoML's usage reports."""
    return {**base, "BENTOML_DO_NOT_TRACK": "True"}


def check_port(host: str, port: int) -> None:
    """See that an address is free before anything is compiled.

    Raises:
        PortInUse: Somebody listens there, or the address is not this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="choose another with --port; --port 0 takes a free one"
                if error.errno == errno.EADDRINUSE
                else "name an address of this machine with --host, and a port that is allowed",
            ) from error


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """A service in a process group of its own, for benchmarks and tests.

    Use as a context manager: ready when entered, drained and gone when left.

    Args:
        folder: From `write_service`.
        deployment: The same as written there.
        env: Environment of the process, see `environment`.
        log: File that takes its output.
        ready_within_s: How long compiling and warming up may take.
    """

    def __init__(
        self,
        folder: Path,
        deployment: Deployment,
        env: Mapping[str, str],
        log: Path,
        *,
        ready_within_s: float = 180.0,
    ) -> None:
        require("bentoml", extra="serve", purpose="serving")
        server = deployment.server
        self.url = f"http://{server.host}:{server.port}"
        self._deployment = deployment
        self._log = log
        self._ready_within_s = ready_within_s
        check_port(server.host, server.port)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command(folder, deployment),
                env={**env, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> ServiceProcess:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Return once the service answers ``/readyz``.

        Raises:
            ServiceFailed: It ended, or was not ready in time; its last words are in the message.
        """
        give_up = time.monotonic() + self._ready_within_s
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise ServiceFailed(
                    f"the service ended with code {self.process.returncode} before it was ready:\n"
                    f"{self._last_words()}"
                )
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                # BentoML starts a worker that fails again and again; the first failure counts.
                if failure := self._last_words(until=STARTUP_FAILED):
                    raise ServiceFailed(f"the service did not start:\n{failure}") from None
                time.sleep(0.1)
        raise ServiceFailed(
            f"the service was not ready within {self._ready_within_s:g} s:\n{self._last_words()}"
        )

    def stop(self) -> None:
        """SIGTERM, wait for the drain, then make sure."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self._deployment.limits.drain_s + 15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _last_words(self, until: str = "") -> str:
        """End of the log, or of its part up to a text; empty where the text is not in it."""
        before, found, _ = self._log.read_text(errors="replace").partition(until or "\0")
        if until and not found:
            return ""
        return "\n".join((before + found).splitlines()[-15:])
