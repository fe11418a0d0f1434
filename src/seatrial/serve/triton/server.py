"""Triton servers on this machine: an installed one, the one of a wheel, one in a container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig, MissingExtra, first_line
from seatrial.serve.triton.own_code import MODULES

INSTALLED = Path("/opt/tritonserver/bin/tritonserver")
CONTAINER_ENGINES = ("docker", "podman")
NO_GRPC = ("--allow-grpc=false",)
WHEEL = "nvidia-pytriton"
INSTALL = (
    "python -m venv triton; triton/bin/pip install nvidia-pytriton==0.7.0; what the models need: "
    "seatrial package triton DEPLOYMENT -o repository; triton/bin/pip install --no-deps "
    "-r repository/NAME/requirements.txt; then serve with --triton-python triton/bin/python"
)
ANSWER_S = 30.0  # for a program that is asked what it is
# Runs in the environment of the wheel: where its files are, and what is missing there.
LOOK = """
import importlib.util, json, os, sys, sysconfig
def has(name):
    return importlib.util.find_spec(name) is not None
found = {"wheel": has("pytriton"), "numpy": None,
         "missing": [module for module in sys.argv[1:] if not has(module)],
         "version": "%d.%d" % sys.version_info[:2], "library": sysconfig.get_config_var("LIBDIR"),
         "programs": os.path.dirname(sys.executable)}
if found["wheel"]:
    (package,) = importlib.util.find_spec("pytriton").submodule_search_locations
    found["package"] = package
if has("numpy"):
    from importlib.metadata import version
    found["numpy"] = version("numpy")
json.dump(found, sys.stdout)
"""


class Ports(NamedTuple):
    """Where a server listens; see `Server.host` of the deployment. Without gRPC it is None."""

    host: str
    http: int
    grpc: int | None
    metrics: int


class TritonServer(NamedTuple):
    """A server that can be started.

    Attributes:
        words: What it is, for messages.
        backends: Names of its backends.
        program: The program itself, before its options.
        options: Options that belong to this kind of server.
        environment: Variables beyond those of this process.
        container: Program that runs the image; empty where no container is used.
    """

    words: str
    backends: frozenset[str]
    program: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    container: str = ""


def find_server(
    scratch: Path, deployment: Deployment, environment: Mapping[str, str] = os.environ
) -> TritonServer:
    """The first of: an installed server, that of the wheel, a container.

    Args:
        scratch: Folder for what the server of the wheel needs beside it; made if need be.
        deployment: Its engine may run in the server's Python. Where it names a Python, no other
            server is taken than that of its wheel.
        environment: Variables of this process.

    Raises:
        MissingExtra: There is none that can run.
    """
    path = environment.get("PATH", "")
    python, image = deployment.triton.python, deployment.triton.image
    if python is None:
        found = shutil.which("tritonserver", path=path)
        if found or os.access(INSTALLED, os.X_OK):
            return installed_server(Path(found) if found else INSTALLED)
    try:
        return wheel_server(scratch, Path(python or sys.executable), deployment.engine, environment)
    except MissingExtra:
        program = next(
            (p for name in CONTAINER_ENGINES if (p := shutil.which(name, path=path))), ""
        )
        if python is not None or not program or not _answers(program):
            raise
    backends = frozenset({"python", "onnxruntime", "openvino", "tensorrt"})
    words = f"the image {image}, run by {program}"
    return TritonServer(words, backends, (image,), container=program)


def installed_server(program: Path) -> TritonServer:
    """A server whose backends lie where its installation put them."""
    folder = program.resolve().parent.parent / "backends"
    names = os.listdir(folder) if folder.is_dir() else ["python"]
    return TritonServer(str(program), frozenset(names), (str(program),))


def wheel_server(
    scratch: Path, python: Path, engine: str, environment: Mapping[str, str]
) -> TritonServer:
    """The server inside the wheel `WHEEL`, which has the Python backend.

    Args:
        scratch: Gets the folder of its backend.
        python: Python of the wheel's environment, in which the models run as well.
        engine: Engine that has to be there, too.
        environment: Variables of this process.

    Raises:
        MissingExtra: The wheel is not there, or what the models need is not.
        InvalidConfig: `python` is none.
    """
    found = _look(python, engine)
    if not found["wheel"]:
        raise MissingExtra(
            f"no Triton server: there is no tritonserver on PATH or in {INSTALLED.parent}, no "
            f"{WHEEL} in the environment of {python}, and no container engine that answers",
            hint=f"install one of them; for the wheel: {INSTALL}",
        )
    if found["missing"] or found["numpy"] is None or int(found["numpy"].partition(".")[0]) > 1:
        missing = ", ".join(found["missing"])
        raise MissingExtra(
            f"the models do not run in the environment of {python}: "
            + (f"{missing} is missing" if missing else f"it has numpy {found['numpy']}")
            + ("" if missing else f", and the Python backend of {WHEEL} needs numpy < 2"),
            hint=f"make an environment of its own: {INSTALL}",
        )
    package = Path(found["package"]) / "tritonserver"
    backend = scratch / "backends" / "python"
    stub = f"python_backend_stubs/{found['version']}/triton_python_backend_stub"
    _link(backend, [*(package / "backends" / "python").iterdir(), package / stub])
    libraries = f"{package.parent.parent / 'nvidia_pytriton.libs'}:{found['library']}"
    # python3 on PATH decides which environment the models run in.
    own = {
        "PATH": f"{found['programs']}:{environment.get('PATH', '')}",
        "LD_LIBRARY_PATH": f"{libraries}:{environment.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
    }
    return TritonServer(
        f"the tritonserver of {WHEEL} in {package.parent.parent}",
        frozenset({"python"}),
        (str(package / "bin" / "tritonserver"),),
        (f"--backend-directory={backend.parent}",),
        own,
    )


def _look(python: Path, engine: str) -> dict[str, str]:
    words = [str(python), "-c", LOOK, *MODULES, *([] if engine == "null" else [_module(engine)])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InvalidConfig(
            f"{python} is no Python that runs: {_reason(error)}",
            hint="name the program of an environment, such as triton/bin/python",
        ) from error
    return found


def _reason(error: Exception) -> str:
    """Why a program did not answer, without the text that it was given."""
    match error:
        case OSError():
            return error.strerror or first_line(error)
        case subprocess.CalledProcessError():
            said = (error.stderr or "").strip().splitlines()
            return f"code {error.returncode}" + (f": {said[-1][:300]}" if said else "")
        case subprocess.TimeoutExpired():
            return f"no answer within {ANSWER_S:g} s"
        case _:
            return "it prints something else"


def _module(engine: str) -> str:
    return engine.partition("-")[0]


def _link(folder: Path, files: list[Path]) -> None:
    """A folder with links to files of elsewhere: the server looks for them side by side."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file)


def _answers(program: str) -> bool:
    """Whether a container engine works: its program may be there without a daemon."""
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def server_command(
    server: TritonServer, repository: Path, ports: Ports, options: tuple[str, ...]
) -> list[str]:
    """The command of a server that runs on this machine itself.

    Args:
        server: See `find_server`; one without a container.
        repository: See `seatrial.serve.triton.repository.write_repository`.
        ports: Where it listens.
        options: Further options of the server.
    """
    grpc = [f"--grpc-address={ports.host}", f"--grpc-port={ports.grpc}"]
    return [
        *server.program, f"--model-repository={repository}", *server.options, *options,
        f"--http-address={ports.host}", f"--http-port={ports.http}",
        *(NO_GRPC if ports.grpc is None else grpc),
        f"--metrics-address={ports.host}", f"--metrics-port={ports.metrics}",
    ]  # fmt: skip
