"""The files of one model, from a hub to a folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import msgspec

from seatrial.errors import NotWritable, SourceUnavailable
from seatrial.models.hubs import selection
from seatrial.models.hubs.client import HubClient
from seatrial.models.hubs.download import download
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.pickles import to_safetensors
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.refusals import mirror
from seatrial.progress import Progress
from seatrial.system.files import room_hint, writing


class Fetch(msgspec.Struct, frozen=True):
    """One model on its way.

    Attributes:
        client: The hub.
        snapshot: Commit and files of the model.
        folder: Folder for the files; each commit has a folder in it.
        on_progress: Called with messages, and with bytes about once a MiB.
    """

    client: HubClient
    snapshot: Snapshot
    folder: Path
    on_progress: Progress


def checkpoint(job: Fetch, *, allow_pickle: bool) -> Path:
    """Fetch a transformers checkpoint: configuration, preprocessor, card, weights.

    Returns:
        The folder, with the weights as safetensors: one file, or shards and their index.

    Raises:
        UnknownFamily: No family here can run the model; the weights were not fetched.
        InvalidArtifact: The repository is no checkpoint, or has pickles only.
        SourceUnavailable: The hub is gone, or serves something else than it lists.
        NotWritable: No space left.
    """
    snapshot = job.snapshot
    described = _fetch(job, selection.descriptions(snapshot))
    selection.check_config(described[0], snapshot)
    index = selection.weights_index(snapshot, allow_pickle=allow_pickle)
    listed = _fetch(job, [index])[0] if index is not None else None
    paths = _fetch(job, selection.weights(snapshot, listed), hashed=True)
    if not paths[0].name.endswith(".safetensors"):
        job.on_progress("rewriting pickled weights as safetensors")
        to_safetensors(paths, paths[0].parent)
    return paths[0].parent


def single_file(job: Fetch, reference: Reference) -> Path:
    """Fetch the one ONNX file that a reference names, and what describes it.

    Raises:
        InvalidInput: The repository has no such file.
        InvalidArtifact: It is not ONNX.
        SourceUnavailable: The hub is gone, or serves something else than it lists.
        NotWritable: No room.
    """
    file = selection.single(job.snapshot, reference)
    _fetch(job, selection.beside(job.snapshot, file))
    return _fetch(job, [file], hashed=True)[0]


def _fetch(job: Fetch, files: list[RemoteFile], *, hashed: bool = False) -> list[Path]:
    # The commit comes from the hub: it may not be used as a path.
    folder = job.folder / re.sub(r"[^A-Za-z0-9_-]", "-", job.snapshot.commit)
    with writing(folder, setting="SEATRIAL_HOME"):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    needed = sum(file.size_bytes for file in files)
    if needed > free:
        raise NotWritable(
            f"{folder} has room for {free:,} bytes, and {job.snapshot.repo} needs {needed:,}",
            hint=room_hint("SEATRIAL_HOME"),
        )
    paths = [folder / PurePosixPath(file.path).name for file in files]
    for file, path in zip(files, paths, strict=True):
        if hashed and not file.checkable:
            raise SourceUnavailable(
                f"{job.client.hub.title} lists no hash for {file.path}: it could not be checked",
                hint=mirror(job.client.hub),
            )
        download(job.client, job.snapshot, file, path, job.on_progress)
    return paths
