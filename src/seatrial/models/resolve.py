"""From the name of a model to its artifact: a name in the store, a folder or a model file."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from seatrial.artifact import MANIFEST, Artifact, Store
from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.models.facts import ModelFacts, refuse_facts
from seatrial.models.import_checkpoint import (
    checkpoint_files,
    import_transformers,
    import_ultralytics,
    plain_name,
)
from seatrial.models.import_onnx import import_onnx, onnx_files
from seatrial.models.import_openvino import import_openvino, openvino_files
from seatrial.models.sidecars import GRAPH_FOLDERS, graphs_in
from seatrial.system.files import beside, sha256_file


def resolve(
    store: Store, model: str, *, allow_pickle: bool = False, deployment: Path | None = None
) -> Artifact:
    """Open what a person named; every command takes the same names.

    A model file or a checkpoint outside the store is imported under its own name and the hash of
    all files that the import reads, so that naming it twice imports it once, and naming it after
    a change imports it again.

    Args:
        store: Holds the named artifacts; its `imports` take the imported ones.
        model: Name in the store; path of an artifact folder, of an ``.onnx`` file, of an
            OpenVINO ``.xml`` file or its folder, of an Ultralytics ``.pt`` file, or of a folder
            that transformers wrote.
        allow_pickle: Read a ``.pt`` file although reading it runs code that is in it.
        deployment: File that names the model, in the folder of which it was not found.

    Raises:
        InvalidArtifact: There is nothing of that name or path, or it is not usable.
        InvalidInput: The name is empty.
    """
    if not model.strip():
        raise InvalidInput(
            "the name of the model is empty",
            hint="give a name in the store (seatrial models list), a folder or a model file",
        )
    path = Path(model).expanduser()
    if (path / MANIFEST).is_file():
        return Artifact.open(path)
    is_model = path.is_file() or _is_checkpoint(path)
    if is_model or (path.is_dir() and graph_file(path) is not None):
        stem = path.resolve().name if path.is_dir() else path.stem
        name = f"{plain_name(stem)}-{_read_digest(path)[:8]}"
        if name in store.names():  # from before imports had a place of their own
            return store.open(name)
        imports = store.imports
        if imports.has(name):
            with contextlib.suppress(InvalidArtifact):  # damaged, or of another version: again
                return imports.open(name)
        return import_model(imports, path, name=name, allow_pickle=allow_pickle, replace=True)
    # Also where a folder of images has the artifact's name.
    if store.has(model) or store.imports.has(model):
        return store.open(model)
    if path.is_dir():
        return Artifact.open(path)
    _check_regular(path)
    looked = _looked(path, deployment)
    # Of both places, the file's own is the one that is meant.
    near = beside(deployment.absolute().parent / path if deployment and looked else path)
    is_path = "/" in model or path.suffix in (".onnx", ".xml", ".pt")
    if is_path or any(near.endswith(f"{suffix}?") for suffix in (".onnx", ".xml", ".pt")):
        hint = near or "give the path of a model file"
        raise InvalidArtifact(f"{model} does not exist{looked}", hint=hint)
    from seatrial.models.sources.table import SOURCES  # the hubs' clients take a while

    if model in SOURCES:
        raise InvalidArtifact(
            f"{model} is not in the store", hint=f"fetch it first: seatrial models pull {model}"
        )
    return store.open(model, fetched=SOURCES)


def _looked(path: Path, deployment: Path | None) -> str:
    """The folders in which a model was looked for, where they are not plain."""
    if deployment is None or path.is_absolute():
        return ""
    folders = dict.fromkeys((deployment.absolute().parent, Path.cwd()))
    return f", neither beside {deployment} nor in {Path.cwd()}" if len(folders) > 1 else ""


def read_by(store: Store, model: str) -> list[Path]:
    """The files and folders that opening a model reads, for what must not be overwritten.

    Args:
        store: See `resolve`; it is read as a whole.
        model: See `resolve`; there may be nothing of that name.
    """
    path = Path(model).expanduser()
    if (path / MANIFEST).is_file():
        return [store.root, path]
    if path.is_file() or _is_checkpoint(path) or (path.is_dir() and graph_file(path) is not None):
        return [store.root, *_files(path)]
    return [store.root]


def import_model(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    allow_pickle: bool = False,
    replace: bool = False,
    told: ModelFacts | None = None,
) -> Artifact:
    """Make an artifact of a model file or of a checkpoint's folder.

    Args:
        store: Store that the artifact goes to.
        path: An ``.onnx`` file, an OpenVINO ``.xml`` file, or a folder with one of the two; an
            Ultralytics ``.pt`` file; or a folder that transformers wrote.
        name: Name of the artifact; default: the file's stem, or the folder's name.
        allow_pickle: Read a ``.pt`` file although reading it runs code that is in it.
        replace: Replace an artifact of that name with other content.
        told: What a person says of a graph that does not say it itself.

    Raises:
        InvalidArtifact: It is missing, of another kind, damaged, or a pickle and not allowed.
        InvalidInput: The name is not usable, or taken.
    """
    _check_regular(path)
    if _is_checkpoint(path):
        name = path.resolve().name.lower() if name is None else name
        uri = path.resolve().name
        return import_transformers(
            store, path, name=name, uri=uri, licence="unknown", replace=replace
        )
    graph = graph_file(path)
    if graph is not None:
        if name is None and path.is_dir():
            name = plain_name(path.resolve().name)
        read = import_openvino if graph.suffix == ".xml" else import_onnx
        return read(store, graph, name=name, replace=replace, told=told)
    refuse_facts(told, f"{path} describes itself")
    if path.suffix == ".pt":
        name = path.stem.lower() if name is None else name
        return import_ultralytics(
            store, path, name=name, allow_pickle=allow_pickle, replace=replace
        )
    what = "is not a model file that is read here" if path.exists() else "does not exist"
    raise InvalidArtifact(
        f"{path} {what}",
        hint="give an .onnx, .xml (OpenVINO) or .pt file, or a folder that an exporter or "
        "transformers wrote",
    )


def _files(path: Path) -> list[Path]:
    """The files that `import_model` reads."""
    if _is_checkpoint(path):
        return checkpoint_files(path)
    graph = graph_file(path)
    if graph is None:
        return [path]
    return openvino_files(graph) if graph.suffix == ".xml" else onnx_files(graph)


def _check_regular(path: Path) -> None:
    """Refuse a pipe or a device under the name of a model.

    Raises:
        InvalidArtifact: It is one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidArtifact(f"{path} is not a regular file", hint="name a model file or a folder")


def _read_digest(path: Path) -> str:
    """The digest of what `import_model` reads.

    Raises:
        InvalidArtifact: A file cannot be read.
    """
    try:
        return _digest(_files(path))
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else path
        raise InvalidArtifact(
            f"{named} cannot be read: {error.strerror}",
            hint="name a regular file that this user may read",
        ) from error


def _digest(files: list[Path]) -> str:
    """sha256 of one file, or of the names and hashes of several."""
    hashes = [sha256_file(file) for file in files]
    if len(files) == 1:
        return hashes[0]
    lines = "".join(f"{sha256} {file.name}\n" for file, sha256 in zip(files, hashes, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _is_checkpoint(path: Path) -> bool:
    return (path / huggingface.CONFIG).is_file() and graph_file(path) is None


def graph_file(path: Path) -> Path | None:
    """The graph that a path names: a file, or the one in a folder without other weights.

    A snapshot of the hub without a graph of its own has it in one of the `GRAPH_FOLDERS`.

    Raises:
        InvalidArtifact: The folder has several.
    """
    if not path.is_dir():
        return path if path.suffix in (".onnx", ".xml") else None
    if any(path.glob("*.safetensors")) or any(path.glob("pytorch_model*")):
        return None
    found = graphs_in(path)
    if not found and (path / huggingface.CONFIG).is_file():
        found = [graph for name in GRAPH_FOLDERS for graph in graphs_in(path / name)]
    if len(found) > 1:
        raise InvalidArtifact(
            f"{path} holds {len(found)} graphs: "
            f"{', '.join(str(file.relative_to(path)) for file in found)}",
            hint=f"name one of them: {found[0]}",
        )
    return found[0] if found else None
