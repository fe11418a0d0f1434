"""Service folders: all that a runtime starts a deployment from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import MANIFEST, Artifact
from seatrial.deployment import Deployment
from seatrial.errors import SeatrialError
from seatrial.system.files import staged_folder, writing
from seatrial.system.memory import heap_environment
from seatrial.system.own_wheel import provide_package
from seatrial.system.written_folders import is_recorded, record, rewritten_folder

SERVICE_PY = '''"""A Seatrial service. Start it with: bentoml serve ."""

from pathlib import Path

from seatrial.serve.runtimes.bento import service

Seatrial = service(Path(__file__).parent / "deployment.toml")
'''
BENTOFILE = """service: "service:Seatrial"
include:
  - "service.py"
  - "deployment.toml"
  - "model/*"
"""
# What runs of a service write into its folder: swapped models, and what Triton serves.
OF_RUNS = ("reloaded", "triton")
# Engine -> the extra that installs it, where their names differ.
EXTRAS = {"onnxruntime-tensorrt": "onnxruntime-gpu", "torch-compile": "torch"}


def write_service(
    folder: Path,
    artifact: Artifact,
    deployment: Deployment,
    *,
    with_package: bool = False,
    setting: str = "",
) -> Path:
    """Write a folder that ``bentoml serve`` starts: service.py, deployment.toml, the model.

    Args:
        folder: Made if it is not there. One that an earlier call wrote is replaced; with
            `with_package` only where it holds nothing else, see `rewritten_folder`.
        artifact: Copied into the folder, so that the folder stands alone.
        deployment: Written with the model's path in the folder.
        with_package: Say in ``bentofile.yaml`` what installs Seatrial and the engine, for
            ``bentoml build``; a wheel of this Seatrial is added where it is not on an index.
        setting: Option or variable that names the folder, for errors.

    Returns:
        The folder.

    Raises:
        InvalidInput: The folder holds something else than a service of ours, or is a file.
        NotWritable: It cannot be made or written.
    """
    place = rewritten_folder(folder, of_runs=OF_RUNS) if with_package else _own(folder, setting)
    with place as staged:
        (staged / "service.py").write_text(SERVICE_PY)
        python = _python_section(staged, deployment) if with_package else ""
        (staged / "bentofile.yaml").write_text(BENTOFILE + python)
        written = msgspec.structs.replace(deployment, model="model")
        (staged / "deployment.toml").write_text(written.to_toml())
        _write_artifact(artifact, staged / "model")
    return folder


@contextlib.contextmanager
def _own(folder: Path, setting: str) -> Iterator[Path]:
    """A staged folder at a place of ours: a service starts there again whatever lies in it.

    A file that a loss of power cut short, or a core dump, stops no start. A folder that we did not
    write is kept; those of earlier versions have no list of their files.
    """
    replace = is_recorded(folder)
    with contextlib.suppress(OSError, ValueError):
        replace = replace or (folder / "service.py").read_text() == SERVICE_PY
    with staged_folder(folder, replace=replace, setting=setting) as staged:
        yield staged
        record(staged)


def place_artifact(artifact: Artifact, folder: Path) -> Path:
    """Put an artifact into a folder of its own, where the store's changes do not reach it.

    Returns:
        The folder, or the artifact's own where that one cannot be written.
    """
    if (folder / MANIFEST).is_file():
        return folder
    try:
        with staged_folder(folder) as staged:
            _write_artifact(artifact, staged)
            record(staged)  # so that `write_service` knows it for ours
    except SeatrialError:
        return artifact.path
    return folder


def _write_artifact(artifact: Artifact, folder: Path) -> None:
    # The files of the manifest alone: a link that lies beside them may lead anywhere.
    for name in (MANIFEST, *(file.path for file in artifact.manifest.files)):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(artifact.path / name, target)


def _python_section(folder: Path, deployment: Deployment) -> str:
    engine = EXTRAS.get(deployment.engine, deployment.engine)
    if deployment.device == "cuda" and engine == "onnxruntime":
        engine = "onnxruntime-gpu"
    extras = ["serve"] if engine == "null" else ["serve", engine]
    if deployment.server.grpc_port is not None:
        extras.append("grpc")
    # A text in JSON is one in YAML.
    lines = ["python:", "  packages:", f"    - {json.dumps(provide_package(folder, *extras))}"]
    if wheels := sorted(folder.glob("wheels/*.whl")):
        names = (json.dumps(f"wheels/{wheel.name}") for wheel in wheels)
        lines += ["  wheels:", *(f"    - {name}" for name in names)]
    return "\n".join(lines) + "\n"


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file of an artifact a second name, or copy it where that is another disk."""
    try:
        os.link(source, target)  # artifacts are immutable: two names for one file are safe
    except OSError:
        shutil.copy2(source, target)


def environment(base: Mapping[str, str], folder: Path | None = None) -> dict[str, str]:
    """Environment of a service process: the caller's, few heaps, no usage reports of BentoML.

    Args:
        base: The caller's.
        folder: The service folder. What BentoML writes goes beside it: the folder of the user may
            be read-only. So do temporary files where there is no folder for them.
    """
    own = {**heap_environment(base), "BENTOML_DO_NOT_TRACK": "True"}
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
