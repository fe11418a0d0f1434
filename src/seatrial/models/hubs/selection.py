"""The choice of a repository's files: those that load the model, and no more."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.detect.families.huggingface import CONFIG, PREPROCESSOR, PROCESSOR
from seatrial.errors import InvalidArtifact, InvalidInput, UnknownFamily
from seatrial.models.hubs.compatible import MODEL_TYPES, PICKLES
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.reference import Reference
from seatrial.models.recognise import LABELS_FILE
from seatrial.models.safetensors_check import read_index

CARD = "README.md"
DESCRIPTIONS = (CONFIG, PREPROCESSOR, PROCESSOR, CARD)
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"


class _Config(msgspec.Struct, frozen=True):
    model_type: str = ""


def descriptions(snapshot: Snapshot) -> list[RemoteFile]:
    """The small files that say what the model is.

    Raises:
        InvalidArtifact: It does not have the files of a transformers model.
    """
    found = [file for name in DESCRIPTIONS if (file := snapshot.file(name)) is not None]
    if snapshot.file(CONFIG) is None:
        raise InvalidArtifact(
            f"{snapshot.repo} is not a transformers model: it has no {CONFIG}",
            hint=_other_way(snapshot),
        )
    return found


def check_config(path: Path, snapshot: Snapshot) -> None:
    """Check, before the weights are fetched, that a family here can run the model.

    Raises:
        UnknownFamily: None can.
        InvalidArtifact: The file is not the configuration of a model.
    """
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except UNDECODABLE as error:
        raise InvalidArtifact(
            f"{CONFIG} of {snapshot.repo} is not the configuration of a model: {error}"
        ) from error
    if config.model_type not in MODEL_TYPES:
        raise UnknownFamily(
            f"{snapshot.repo} has the type {config.model_type!r}, which no family here runs",
            hint=f"types that run: {', '.join(MODEL_TYPES)}. {_other_way(snapshot)}",
        )


def weights_index(snapshot: Snapshot, *, allow_pickle: bool) -> RemoteFile | None:
    """The list of shards to fetch before the shards; None if the weights are one file.

    Raises:
        InvalidArtifact: There are no weights, or only pickles and they are not allowed.
    """
    if snapshot.file(WEIGHTS) is not None:
        return None
    if (index := snapshot.file(INDEX)) is not None:
        return index
    pickled = snapshot.file(PICKLED) or snapshot.file(PICKLED_INDEX)
    if pickled is None:
        raise InvalidArtifact(f"{snapshot.repo} has no {WEIGHTS}", hint=_other_way(snapshot))
    if not allow_pickle:
        raise InvalidArtifact(
            f"{snapshot.repo} has its weights as a pickle only ({pickled.path}); a pickle can run "
            "code when it is read",
            hint="look for a revision with safetensors (@refs/pr/N), or take the risk with "
            "--allow-pickle: it is read with weights_only, which refuses code",
        )
    return pickled if pickled.path == PICKLED_INDEX else None


def weights(snapshot: Snapshot, index: Path | None) -> list[RemoteFile]:
    """The files that hold the weights.

    Args:
        snapshot: Files of the repository.
        index: The fetched list of shards; None if the weights are one file.

    Raises:
        InvalidArtifact: The index is broken, names no files, or others than weights of its form
            at the top of the repository.
    """
    if index is None:
        return [file for name in (WEIGHTS, PICKLED) if (file := snapshot.file(name))][:1]
    # A list of safetensors may name no pickles: those need leave.
    shards = read_index(
        index, snapshot.paths(".bin" if index.name == PICKLED_INDEX else ".safetensors")
    )
    return [file for name in shards if (file := snapshot.file(name)) is not None]


def single(snapshot: Snapshot, reference: Reference) -> RemoteFile:
    """The one file that a reference names.

    Raises:
        InvalidInput: There is none of that path.
        InvalidArtifact: It is not ONNX.
    """
    file = snapshot.file(reference.file)
    if file is None:
        raise InvalidInput(
            f"{snapshot.repo} has no file {reference.file!r}", hint=_other_way(snapshot)
        )
    if file.path.endswith(PICKLES):
        raise InvalidArtifact(
            f"{file.path} is a pickle, which can run code when it is read; only .onnx files are "
            "taken by name",
            hint=f"{_other_way(snapshot)}; seatrial models pull yolo11n fetches that one",
        )
    if not file.path.endswith(".onnx"):
        raise InvalidArtifact(
            f"{file.path} is not an .onnx file",
            hint=f"leave the path out for a transformers model: {reference.source}:{snapshot.repo}",
        )
    return file


def beside(snapshot: Snapshot, file: RemoteFile) -> list[RemoteFile]:
    """The files that hold an ONNX export's labels and preprocessing, where they are not in it.

    Exporters put them into the file's own folder or at the top of the repository.
    """
    folder = PurePosixPath(file.path).parent
    found = (
        snapshot.file(str(folder / name)) or snapshot.file(name)
        for name in (CONFIG, PREPROCESSOR, PROCESSOR, LABELS_FILE)
    )
    return [other for other in found if other is not None]


def _other_way(snapshot: Snapshot) -> str:
    onnx = sorted(snapshot.paths(".onnx"), key=len)
    if not onnx:
        return "it has no .onnx file either; seatrial models search finds models that run here"
    named = ", ".join(f"{snapshot.source}:{snapshot.repo}/{path}" for path in onnx[:3])
    return f"it has ONNX files, which are pulled by name: {named}"
