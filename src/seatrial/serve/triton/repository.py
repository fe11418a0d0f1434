"""A model repository of a deployment, as Triton serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import msgspec
import numpy as np

from seatrial.artifact import MANIFEST, Artifact
from seatrial.deployment import Deployment, Server, Triton
from seatrial.detect.opening import layout
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.signatures import GRAPH_SUFFIX, VERSION
from seatrial.serve.protocols.tensors import bytes_tensor
from seatrial.serve.service_folder import link_or_copy
from seatrial.serve.triton.backends import GraphRunner, choose_backend
from seatrial.serve.triton.model_config import (
    LABELS,
    LANE,
    WARM_UP_FILE,
    Shape,
    detector_config,
    graph_config,
)
from seatrial.serve.triton.own_code import CODE, requirements, write_code
from seatrial.serve.triton.text_format import to_text
from seatrial.system.files import staged_folder
from seatrial.system.written_folders import check_recorded, record

CONFIG = "config.pbtxt"
REQUIREMENTS = "requirements.txt"
# Of the folder of a version; `python_model` reads them.
DEPLOYMENT, MODEL = "deployment.toml", "model"
IN_MODEL = "$$TRITON_MODEL_DIRECTORY"  # as Triton replaces it in EXECUTION_ENV_PATH
OTHER_PLACE = "-o names another folder"
# Values are put in as `repr` writes them: no text of an artifact becomes code.
MODEL_PY = '''"""A model in Triton's Python backend."""

import sys
from pathlib import Path

REQUIREMENTS = {requirements!r}

sys.path.insert(0, str(Path(__file__).parent / {code!r}))

try:
    from seatrial.serve.triton.python_model import {kind} as TritonPythonModel
except ImportError as error:
    raise ImportError(
        f"{{error}}; in the Python of this server: pip install --no-deps -r {{REQUIREMENTS}}"
    ) from error
'''


class PackagedModel(msgspec.Struct, frozen=True):
    """One model of a repository.

    Attributes:
        name: As requests name it.
        backend: What runs it.
        instances: Number of instances.
        max_batch_size: 0 where the first dimension is one like others.
    """

    name: str
    backend: str
    instances: int
    max_batch_size: int


class Packaged(msgspec.Struct, frozen=True):
    """Summary of a repository that was written.

    Attributes:
        repository: The folder.
        models: The detector, and its graph.
        requirements: Path in it of what the Python of the server needs beside numpy, as
            ``pip install --no-deps -r`` reads it.
        server_options: Options with which the server keeps to the lanes of the deployment.
        notes: What a person should know of it.
    """

    repository: str
    models: tuple[PackagedModel, ...]
    requirements: str
    server_options: tuple[str, ...]
    notes: tuple[str, ...] = ()


def write_repository(
    folder: Path,
    artifact: Artifact,
    deployment: Deployment,
    *,
    backend: str = "auto",
    environment: str = "",
    force: bool = False,
    edited: bool = False,
) -> Packaged:
    """Write a deployment's models into a model repository.

    Other models that are there stay as they are. A repository that is new appears in one step; in
    one that is there, the graph comes first, since the detector may ask it.

    Args:
        folder: The repository; made if it is not there.
        artifact: The model.
        deployment: How to serve it.
        backend: What runs the graph; see `choose_backend`.
        environment: See `detector_config`.
        force: Replace models of the same names that an earlier call wrote; not where a file of
            them was edited.
        edited: Replace these too: in a folder of ours, where a loss of power may cut files short.

    Raises:
        InvalidConfig: The backend does not run the deployment's engine.
        InvalidArtifact: The artifact has no graph that the backend reads.
        InvalidInput: There are models of the same names, and `force` is false; or they hold files
            that no earlier call wrote, or that were edited since; or there is no such environment.
        NotWritable: The folder cannot be made or written.
    """
    notes = _check_environment(environment)
    shape = lanes_of(deployment)
    runner = choose_backend(artifact, deployment, backend, shape.threads)
    name = artifact.manifest.name
    detector = detector_config(artifact, deployment, runner, shape, environment=environment)
    graph = graph_config(artifact, deployment, runner, shape, environment=environment)
    graph_name = name + GRAPH_SUFFIX
    with _model_folders(folder, (graph_name, name), force=force, edited=edited) as staged:
        _write_detector(staged[name], artifact, deployment, runner, detector)
        _write_graph(staged[graph_name], artifact, deployment, runner, graph)
    return Packaged(
        repository=str(folder),
        models=(_summary(detector), _summary(graph)),
        requirements=f"{name}/{REQUIREMENTS}",
        server_options=server_options(shape),
        notes=(*runner.notes, *notes),
    )


def _check_environment(environment: str) -> tuple[str, ...]:
    """The notes on an environment that the models name.

    Raises:
        InvalidInput: It is a path that leads nowhere, wherever the server runs.
    """
    if not environment or environment.startswith(IN_MODEL) or Path(environment).exists():
        return ()
    if not Path(environment).is_absolute():
        raise InvalidInput(
            f"there is no environment {environment}",
            hint="name a folder or an archive that is there; one of the server's machine by its "
            f"absolute path, one in the folder of the model by {IN_MODEL}/NAME",
        )
    return (f"{environment} is not there: the machine of the server has to have it",)


def lanes_of(deployment: Deployment) -> Shape:
    """Lanes of all processes of a deployment: in Triton they belong to one server."""
    workers, config = layout(deployment)
    batching = deployment.batching
    # What `auto` measures at the start of a service is not known before one.
    most = 1 if batching.max_batch == "auto" else batching.max_batch
    return Shape(workers * config.instances, config.threads, most, batching.max_delay_ms)


def server_options(shape: Shape) -> tuple[str, ...]:
    """Options of ``tritonserver`` with which detector and graph share the lanes."""
    return (
        # The configurations are complete; a backend that completes them changes their shapes.
        "--disable-auto-complete-config",
        "--rate-limit=execution_count",
        f"--rate-limit-resource={LANE}:{shape.lanes}",
    )


@contextlib.contextmanager
def _model_folders(
    repository: Path, names: tuple[str, ...], *, force: bool, edited: bool
) -> Iterator[Mapping[str, Path]]:
    """Staged folders of models; they are moved into the repository when the block ends well."""
    with contextlib.ExitStack() as stack:
        if not repository.exists():
            whole = stack.enter_context(staged_folder(repository))
            made = {name: _made(whole / name) for name in names}
            yield made
            for one in made.values():
                record(one)
            return
        staged: dict[str, Path] = {}
        for name in reversed(names):  # those that are entered last are moved first
            place = repository / name
            if place.exists() and any(place.iterdir()):
                if not force:
                    raise InvalidInput(
                        f"{repository} has a model {name!r} already",
                        hint=f"--force replaces it; {OTHER_PLACE}",
                    )
                check_recorded(place, edited=edited, hint=f"move that file away; {OTHER_PLACE}")
            staged[name] = stack.enter_context(staged_folder(place, replace=force))
        yield staged
        for one in staged.values():
            record(one)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _write_detector(
    folder: Path,
    artifact: Artifact,
    deployment: Deployment,
    runner: GraphRunner,
    config: dict[str, object],
) -> None:
    manifest = artifact.manifest
    (folder / CONFIG).write_text(to_text(config), "utf-8")
    names = (" ".join(label.split()) for label in manifest.labels)  # a line each
    (folder / LABELS).write_text("".join(f"{name}\n" for name in names), "utf-8")
    engine = deployment.engine if runner.backend == "python" else "null"
    (folder / REQUIREMENTS).write_text("".join(f"{one}\n" for one in requirements(engine)))
    warm_up = _made(folder / "warmup") / WARM_UP_FILE
    warm_up.write_bytes(bytes_tensor([_grey_image(manifest.preprocessing.size_hw)]))
    own = runner.backend == "python"
    _write_python_model(folder, artifact, deployment, "DetectorModel", with_files=own)


def _write_graph(
    folder: Path,
    artifact: Artifact,
    deployment: Deployment,
    runner: GraphRunner,
    config: dict[str, object],
) -> None:
    (folder / CONFIG).write_text(to_text(config), "utf-8")
    if runner.backend == "python":
        _write_python_model(folder, artifact, deployment, "GraphModel", with_files=True)
        return
    version = _made(folder / VERSION)
    main = artifact.file(runner.format)
    others = {artifact.file(other) for other in artifact.manifest.formats} - {main}
    for entry in artifact.manifest.files:
        file = artifact.path / entry.path
        # Weights lie beside the graph, by its name: model.bin, model.onnx.data.
        beside = file.is_relative_to(main.parent) and file.name.startswith(main.stem)
        if file == main or (beside and file not in others):
            target = version / file.relative_to(main.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(file, target)


def _write_python_model(
    folder: Path, artifact: Artifact, deployment: Deployment, kind: str, *, with_files: bool
) -> None:
    version = _made(folder / VERSION)
    needed = f"{artifact.manifest.name}/{REQUIREMENTS}"
    text = MODEL_PY.format(code=CODE, kind=kind, requirements=needed)
    (version / "model.py").write_text(text, "utf-8")
    write_code(version / CODE)
    # Addresses and files of tokens are of another place.
    written = msgspec.structs.replace(deployment, model=MODEL, server=Server(), triton=Triton())
    (version / DEPLOYMENT).write_text(written.to_toml())
    files = [file.path for file in artifact.manifest.files] if with_files else []
    for path in (MANIFEST, *files):
        target = version / MODEL / path
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(artifact.path / path, target)


def _grey_image(size_hw: tuple[int, int]) -> bytes:
    _, encoded = cv2.imencode(".jpg", np.full((*size_hw, 3), 114, np.uint8))
    return encoded.tobytes()


def _summary(config: Mapping[str, object]) -> PackagedModel:
    (group,) = msgspec.convert(config["instance_group"], list[dict[str, object]])
    return PackagedModel(
        str(config["name"]),
        str(config["backend"]),
        msgspec.convert(group["count"], int),
        msgspec.convert(config["max_batch_size"], int),
    )
