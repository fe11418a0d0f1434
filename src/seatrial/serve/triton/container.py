"""A Triton server in a container: its image, its command, and that nothing of it is left behind.

A container is no child of the program that asks for it: it is one of the engine's daemon, and runs
on when that program is killed. So its life hangs on its standard input, which this process holds
open: when that ends, for whatever reason, a shell in the container ends the server.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from seatrial.errors import ServiceFailed
from seatrial.progress import Progress
from seatrial.serve.triton.server import ANSWER_S, NO_GRPC, Ports, TritonServer

MODELS = "/models"
HTTP, GRPC, METRICS = 8000, 8001, 8002  # ports inside, which are Triton's own
LOOK_S = 0.2
# The arguments are those of the server. Descriptor 3 is what the container's life hangs on. The
# shell becomes the server: signals reach that, and its process is the one that is ended.
SCRIPT = """
exec 3<&0 </dev/null
(
    while read -r line; do :; done <&3
    kill -TERM $$; sleep {grace_s}; kill -KILL $$
) >/dev/null 2>&1 &
exec 3<&-
pip install --no-deps -r {requirements} && exec tritonserver "$@"
"""
# Debian's and Ubuntu's pip installs into its system's Python only when it is told so.
PIP = (
    "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_ROOT_USER_ACTION=ignore", "PIP_NO_INPUT=1",
    "PIP_DISABLE_PIP_VERSION_CHECK=1",
)  # fmt: skip


class Container(NamedTuple):
    """A container that is to be started.

    Attributes:
        program: The engine's program.
        name: Name of the container.
        command: The command that runs it, in the foreground and with its standard input open.
    """

    program: str
    name: str
    command: tuple[str, ...]

    def remove(self) -> None:
        """Remove what is left of it, running or not; a container that is gone is no error."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [self.program, "rm", "--force", "--volumes", self.name],
                capture_output=True, timeout=ANSWER_S, check=False,
            )  # fmt: skip


def container_of(
    server: TritonServer,
    repository: Path,
    ports: Ports,
    options: tuple[str, ...],
    *,
    name: str,
    detector: str,
    device: str = "cpu",
    grace_s: float,
) -> Container:
    """The container that serves a repository.

    Args:
        server: See `find_server`; one with a container.
        repository: See `seatrial.serve.triton.repository.write_repository`.
        ports: Where it listens.
        options: Further options of the server.
        name: Name of the container.
        detector: Name of the model whose folder says what the models need.
        device: Device of the deployment.
        grace_s: Seconds that the server has for its end, when this process has gone.
    """
    host = f"[{ports.host}]" if ":" in ports.host else ports.host
    published = [
        word
        for inside, outside in ((HTTP, ports.http), (GRPC, ports.grpc), (METRICS, ports.metrics))
        if outside is not None
        for word in ("-p", f"{host}:{outside}:{inside}")
    ]
    requirements = shlex.quote(f"{MODELS}/{detector}/requirements.txt")
    script = SCRIPT.format(grace_s=round(grace_s), requirements=requirements)
    return Container(
        server.container,
        name,
        (
            server.container, "run", "--rm", "--init", "--interactive", "--name", name,
            "--shm-size=1g", *(word for one in PIP for word in ("-e", one)), *published,
            *(["--gpus=all"] if device == "cuda" else []),
            "-v", f"{repository.absolute()}:{MODELS}:ro",
            *server.program, "sh", "-c", script, "tritonserver",
            f"--model-repository={MODELS}", *server.options, *options,
            *(NO_GRPC if ports.grpc is None else ()),
        ),
    )  # fmt: skip


def fetch_image(server: TritonServer, on_progress: Progress, stopping: Callable[[], bool]) -> bool:
    """Have the image on this machine; fetching one may take many minutes.

    Args:
        server: See `find_server`; one with a container.
        on_progress: Told that it is fetched.
        stopping: Whether this process was told to end meanwhile.

    Returns:
        False where it was told to end.

    Raises:
        ServiceFailed: The image cannot be fetched.
    """
    program, (image,) = server.container, server.program
    found = subprocess.run(
        [program, "image", "inspect", image], capture_output=True, timeout=ANSWER_S, check=False
    )
    if found.returncode == 0:
        return True
    on_progress(f"fetching the image {image}")
    with subprocess.Popen(
        [program, "pull", "--quiet", image],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace",
    ) as fetching:  # fmt: skip
        while True:
            try:
                _, said = fetching.communicate(timeout=LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if stopping():
                    fetching.terminate()
                    return False
    if fetching.returncode:
        raise ServiceFailed(
            f"the image {image} cannot be fetched: {said.strip()[-500:]}",
            hint="name one that is on this machine: --triton-image, or image in [triton]",
        )
    return True
