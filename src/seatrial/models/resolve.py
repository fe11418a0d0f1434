"""From the name of a model to its artifact: a name in the store, a folder or a model file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seatrial.artifact import MANIFEST, Artifact, Store
from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.models.import_checkpoint import (
    checkpoint_files,
    import_transformers,
    import_ultralytics,
    plain_name,
)
from seatrial.models.import_onnx import import_onnx, onnx_files
from seatrial.system.files import sha256_file


def resolve(store: Store, model: str, *, allow_pickle: bool = False) -> Artifact:
    """Open what a person named; every command takes the same names.

    A model file or a checkpoint outside the store is imported under its own name and the hash of
    all files that the import reads, so that naming it twice imports it once, and naming it after
    a change imports it again.

    Args:
        store: Holds the named artifacts and takes the imported ones.
        model: Name in the store; path of an artifact folder, of an ``.onnx`` file, of an
            Ultralytics ``.pt`` file, or of a folder that transformers wrote.
        allow_pickle: Read a ``.pt`` file although reading it runs code that is in it.

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
    if path.is_file() or _is_checkpoint(path):
        stem = path.resolve().name if path.is_dir() else path.stem
        name = f"{plain_name(stem)}-{_digest(_files(path))[:8]}"
        if name in store.names():
            return store.open(name)
        return import_model(store, path, name=name, allow_pickle=allow_pickle)
    if model in store.names():  # also where a folder of images has the artifact's name
        return store.open(model)
    if path.is_dir():
        return Artifact.open(path)
    if path.suffix in (".onnx", ".pt"):
        raise InvalidArtifact(f"{path} does not exist", hint="give the path of a model file")
    from seatrial.models.sources.table import SOURCES  # the hubs' clients take a while

    if model in SOURCES:
        raise InvalidArtifact(
            f"{model} is not in the store", hint=f"fetch it first: seatrial models pull {model}"
        )
    return store.open(model, fetched=SOURCES)


def import_model(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    allow_pickle: bool = False,
    replace: bool = False,
) -> Artifact:
    """Make an artifact of a model file or of a checkpoint's folder.

    Args:
        store: Store that the artifact goes to.
        path: An ``.onnx`` file, an Ultralytics ``.pt`` file, or a folder that transformers wrote.
        name: Name of the artifact; default: the file's stem, or the folder's name.
        allow_pickle: Read a ``.pt`` file although reading it runs code that is in it.
        replace: Replace an artifact of that name with other content.

    Raises:
        InvalidArtifact: It is missing, of another kind, damaged, or a pickle and not allowed.
        InvalidInput: The name is not usable, or taken.
    """
    if _is_checkpoint(path):
        name = path.resolve().name.lower() if name is None else name
        uri = path.resolve().name
        return import_transformers(
            store, path, name=name, uri=uri, licence="unknown", replace=replace
        )
    if path.suffix == ".onnx":
        return import_onnx(store, path, name=name, replace=replace)
    if path.suffix == ".pt":
        name = path.stem.lower() if name is None else name
        return import_ultralytics(
            store, path, name=name, allow_pickle=allow_pickle, replace=replace
        )
    what = "is not a model file that is read here" if path.exists() else "does not exist"
    raise InvalidArtifact(
        f"{path} {what}",
        hint="give an .onnx or a .pt file, or a folder that transformers wrote",
    )


def _files(path: Path) -> list[Path]:
    """The files that `import_model` reads."""
    if path.is_dir():
        return checkpoint_files(path)
    return onnx_files(path) if path.suffix == ".onnx" else [path]


def _digest(files: list[Path]) -> str:
    """sha256 of one file, or of the names and hashes of several."""
    hashes = [sha256_file(file) for file in files]
    if len(files) == 1:
        return hashes[0]
    lines = "".join(f"{sha256} {file.name}\n" for file, sha256 in zip(files, hashes, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _is_checkpoint(path: Path) -> bool:
    return (path / huggingface.CONFIG).is_file()
