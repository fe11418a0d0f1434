"""A service folder from a deployment, and a process from a service folder."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import MANIFEST, Artifact
from seatrial.deployment import Deployment, Server
from seatrial.errors import NotWritable, PortInUse, ServiceFailed
from seatrial.progress import Progress, silent
from seatrial.system.children import end
from seatrial.system.extras import require
from seatrial.system.files import staged_folder, writing
from seatrial.system.own_wheel import provide_package
from seatrial.system.token_files import SERVER_TOKENS

SERVICE_PY = '''"""A Seatrial service. Start it with: bentoml serve ."""

from pathlib import Path

from seatrial.serve.runtimes.bento import service

Seatrial = service(Path(__file__).parent / "deployment.toml")
'''
PARENT = "SEATRIAL_PARENT"  # id of the process that the service ends with, however that ends
STARTUP_FAILED = "startup failed"  # uvicorn's words
SCRATCH = ".scratch-"  # folders of services that run for a while only: .scratch-PID-RANDOM
METRICS_BYTES = 16 * 2**20  # metrics: 2 MiB for each process, and as much for one in its place
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
BENTOFILE = """service: "service:Seatrial"
include:
  - "service.py"
  - "deployment.toml"
  - "model/*"
"""
# Engine -> the extra that installs it, where their names differ.
EXTRAS = {"onnxruntime-tensorrt": "onnxruntime-gpu", "torch-compile": "torch"}


def write_service(
    folder: Path, artifact: Artifact, deployment: Deployment, *, with_package: bool = False
) -> Path:
    """Write a folder that ``bentoml serve`` starts: service.py, deployment.toml, the model.

    Args:
        folder: Made if it is not there; a service folder in its place is replaced.
        artifact: Copied into the folder, so that the folder stands alone.
        deployment: Written with the model's path in the folder.
        with_package: Say in ``bentofile.yaml`` what installs Seatrial and the engine, for
            ``bentoml build``; a wheel of this Seatrial is added where it is not on an index.

    Returns:
        The folder.

    Raises:
        InvalidInput: The folder holds something else than a service, or is a file.
        NotWritable: It cannot be made or written.
    """
    with staged_folder(folder, replace=(folder / "service.py").is_file()) as staged:
        (staged / "service.py").write_text(SERVICE_PY)
        python = _python_section(staged, deployment) if with_package else ""
        (staged / "bentofile.yaml").write_text(BENTOFILE + python)
        written = msgspec.structs.replace(deployment, model="model")
        (staged / "deployment.toml").write_text(written.to_toml())
        # The files of the manifest alone: a link that lies beside them may lead anywhere.
        for name in (MANIFEST, *(file.path for file in artifact.manifest.files)):
            target = staged / "model" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(artifact.path / name, target)
    return folder


def _python_section(folder: Path, deployment: Deployment) -> str:
    engine = EXTRAS.get(deployment.engine, deployment.engine)
    if deployment.device == "cuda" and engine == "onnxruntime":
        engine = "onnxruntime-gpu"
    extras = ["serve"] if engine == "null" else ["serve", engine]
    lines = ["python:", "  packages:", f'    - "{provide_package(folder, *extras)}"']
    if wheels := sorted(folder.glob("wheels/*.whl")):
        lines += ["  wheels:", *(f'    - "wheels/{wheel.name}"' for wheel in wheels)]
    return "\n".join(lines) + "\n"


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # artifacts are immutable: two names for one file are safe
    except OSError:
        shutil.copy2(source, target)


def command(folder: Path, deployment: Deployment) -> list[str]:
    """The command that serves a folder from `write_service`."""
    return [
        sys.executable, "-m", "bentoml", "serve", "service:Seatrial",
        "--working-dir", str(folder),
        *_address_and_drain(deployment),
    ]  # fmt: skip


def command_by_hand(folder: Path, deployment: Deployment) -> list[str]:
    """The command that a person types to serve a folder from `write_service`."""
    # BentoML takes a relative folder for the name of a service in its own store.
    return ["bentoml", "serve", str(folder.absolute()), *_address_and_drain(deployment)]


def _address_and_drain(deployment: Deployment) -> list[str]:
    server, drain_s = deployment.server, deployment.limits.drain_s
    return [
        "--host", server.host, "--port", str(server.port),
        "--timeout-graceful-shutdown", str(drain_s),
    ]  # fmt: skip


def environment(base: Mapping[str, str], folder: Path | None = None) -> dict[str, str]:
    """Environment of a service process: the caller's, without BentoML's usage reports.

    Args:
        base: The caller's.
        folder: The service folder. What BentoML writes goes beside it: the folder of the user may
            be read-only. So do temporary files where there is no folder for them.
    """
    own = {**base, "BENTOML_DO_NOT_TRACK": "True"}
    if folder is None:
        return own
    own.setdefault("BENTOML_HOME", str(folder.parent.absolute() / ".bentoml"))
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        temporary = folder.parent.absolute() / ".tmp"
        with writing(temporary):
            temporary.mkdir(exist_ok=True)
        own["TMPDIR"] = str(temporary)
    return own


def check_port(host: str, port: int) -> None:
    """Check that an address is free, before anything is compiled.

    Raises:
        PortInUse: Another process listens there, or the address is not this machine's.
    """
    with _bound(host, port):
        pass


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (TypeError, ValueError) as error:  # no name of a host: too long, a NUL character
            raise PortInUse(
                f"cannot listen on {host!r}: {error}", hint="name an address with --host"
            ) from error
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="choose another with --port; --port 0 takes a free one"
                if error.errno == errno.EADDRINUSE
                else "name an address of this machine with --host, and a port that is allowed",
            ) from error
        yield probe


def metrics_root() -> Path:
    """The folder under which a service keeps its metrics: shared memory, or temporary files.

    Files in memory cannot be hit by a disk that others fill.

    Raises:
        NotWritable: Neither is there with enough room.
    """
    hint = "make room there, or set TMPDIR to another folder"
    if os.access(SHARED_MEMORY, os.W_OK) and _free_bytes(SHARED_MEMORY) >= METRICS_BYTES:
        return SHARED_MEMORY
    try:
        folder = Path(tempfile.gettempdir())
        free = _free_bytes(folder)
    except OSError as error:
        raise NotWritable(f"no folder for temporary files: {error.strerror}", hint=hint) from error
    if free < METRICS_BYTES:
        raise NotWritable(
            f"{folder} has {free // 1024} KiB free; a service needs {METRICS_BYTES // 1024} KiB "
            "there for its metrics",
            hint=hint,
        )
    return folder


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def free_port(host: str) -> int:
    """A port that no process listens on at this moment.

    Raises:
        PortInUse: The address is not this machine's.
    """
    with _bound(host, 0) as probe:
        return int(probe.getsockname()[1])


def with_port(deployment: Deployment) -> Deployment:
    """The deployment on a port that is known: port 0 becomes a free one."""
    server = deployment.server
    if server.port:
        return deployment
    server = msgspec.structs.replace(server, port=free_port(server.host))
    return msgspec.structs.replace(deployment, server=server)


def url(server: Server) -> str:
    """The address of a service, as clients write it."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}"


def is_ready(server: Server) -> bool:
    """Whether a service answers there, and says that it is ready."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class ServiceProcess:
    """A service in a process group of its own.

    Use as a context manager: the service is ready when the block begins; it is drained and gone
    when the block ends.

    Args:
        folder: A folder from `write_service`.
        deployment: The deployment written there.
        env: Environment that the process starts with; see `environment`.
        log: File that takes its output.
        ready_within_s: How long compiling and warming up may take.

    Attributes:
        url: Address of the service.
        process: Its supervisor.
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
        self.url = url(server)
        self._deployment = deployment
        self._log = log
        self._ready_within_s = ready_within_s
        check_port(server.host, server.port)
        metrics_root()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command(folder, deployment),
                env={**environment(env, folder), PARENT: str(os.getpid())},
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
            ServiceFailed: It ended, or was not ready in time; the message ends with the last
                lines of its log.
        """
        give_up = time.monotonic() + self._ready_within_s
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise ServiceFailed(
                    f"the service ended with code {self.process.returncode} before it was ready:\n"
                    f"{self._end_of_log()}"
                )
            if is_ready(self._deployment.server):
                return
            # BentoML starts a worker that fails again and again; the first failure counts.
            if failure := self._end_of_log(until=STARTUP_FAILED):
                raise ServiceFailed(f"the service did not start:\n{failure}")
            time.sleep(0.1)
        raise ServiceFailed(
            f"the service was not ready within {self._ready_within_s:g} s:\n{self._end_of_log()}"
        )

    def stop(self) -> None:
        """Send SIGTERM, wait for the drain, kill what is left after it."""
        end(self.process, grace_s=self._deployment.limits.drain_s + 15)

    def _end_of_log(self, until: str = "") -> str:
        """Last lines of the log, or of its part up to a text; empty where the text is not in it."""
        before, found, _ = self._log.read_text(errors="replace").partition(until or "\0")
        if until and not found:
            return ""
        return "\n".join((before + found).splitlines()[-15:])


@contextlib.contextmanager
def scratch_service(
    deployment: Deployment,
    artifact: Artifact,
    folder: Path,
    environment: Mapping[str, str],
    on_progress: Progress = silent,
) -> Iterator[ServiceProcess]:
    """Run a service on a free port for as long as the block lasts.

    Args:
        deployment: Its port is replaced by a free one.
        artifact: The model to serve.
        folder: Takes the service folder and the log, which are removed at the end. What killed
            processes left there is removed too.
        environment: Environment that the service starts with.
        on_progress: Called when the service starts and when it stops.

    Yields:
        The service, ready.

    Raises:
        SeatrialError: The engine cannot run as the deployment says, or see `ServiceProcess`.
    """
    from seatrial.serve.startup import check  # loads the application, which clients do not need

    require("bentoml", extra="serve", purpose="serving")
    # No balancer sends requests to it: none has to be told that it ends. Nobody else knows it.
    anywhere = Server(deployment.server.host, 0, drain_notice_s=0.0, log=deployment.server.log)
    environment = {key: value for key, value in environment.items() if key != SERVER_TOKENS}
    deployment = with_port(msgspec.structs.replace(deployment, server=anywhere))
    # A worker that cannot start is started again and again: find out here that it can.
    engine = check(artifact, deployment)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder)
        scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=folder))
    try:
        service = write_service(scratch / "service", artifact, deployment)
        on_progress(f"starting {artifact.manifest.name} on {engine}")
        log = scratch / "service.log"
        with ServiceProcess(service, deployment, environment, log) as running:
            yield running
            on_progress("stopping the service")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_left_behind(folder: Path) -> None:
    """Remove the scratch folders of processes that are gone."""
    for left in folder.glob(f"{SCRATCH}*"):
        pid = left.name.removeprefix(SCRATCH).partition("-")[0]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(left, ignore_errors=True)
