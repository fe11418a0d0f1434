"""What a person names as a model: an artifact of the store, a folder, or a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seatrial.artifact import MANIFEST, Artifact, Store
from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact
from seatrial.models.import_checkpoint import (
    import_transformers,
    import_ultralytics,
    plain_name,
    weight_files,
)
from seatrial.models.import_onnx import import_onnx
from seatrial.system.files import sha256_file


def resolve(store: Store, model: str, *, allow_pickle: bool = False) -> Artifact:
    """Open what a person named; every command takes the same names.

    A model file or a checkpoint outside the store is imported under its own name and hash, so
    that naming it twice imports it once.

    Args:
        store: Holds the named artifacts and takes the imported ones.
        model: Name in the store; path of an artifact folder, of an ``.onnx`` file, of an
            Ultralytics ``.pt`` file, or of a folder that transformers wrote.
        allow_pickle: Read a ``.pt`` file although reading it runs code that is in it.

    Raises:
        InvalidArtifact: There is nothing of that name or path, or it is not usable.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return Artifact.open(path)
        if (path / huggingface.CONFIG).is_file():
            return _once(
                store, path.name, weight_files(path)[0],
                lambda name: import_transformers(
                    store, path, name=name, uri=path.resolve().name, licence="unknown"
                ),
            )  # fmt: skip
        # A folder of images may go by the name of the model that was trained on them.
        return store.open(model) if model in store.names() else Artifact.open(path)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise InvalidArtifact(f"{path} does not exist", hint="give the path of an .onnx file")
        return _once(store, path.stem, path, lambda name: import_onnx(store, path, name=name))
    if path.suffix == ".pt" and path.is_file():
        return _once(
            store, path.stem, path,
            lambda name: import_ultralytics(store, path, name=name, allow_pickle=allow_pickle),
        )  # fmt: skip
    if path.is_file():
        raise InvalidArtifact(
            f"{path} is not a model file that is read here",
            hint="give an .onnx or a .pt file, or a folder that transformers wrote",
        )
    return store.open(model)


def _once(store: Store, stem: str, file: Path, import_as: Callable[[str], Artifact]) -> Artifact:
    """Import a file, unless the store has it already."""
    name = f"{plain_name(stem)}-{sha256_file(file)[:8]}"
    return store.open(name) if name in store.names() else import_as(name)
