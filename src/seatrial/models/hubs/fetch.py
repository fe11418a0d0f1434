"""The files of one model, from a hub to a folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import msgspec

from seatrial.errors import NotWritable, SourceUnavailable
from seatrial.models.hubs import selection
from seatrial.models.hubs.access import ByteProgress, Hub
from seatrial.models.hubs.download import RemoteFile, download, not_writable
from seatrial.models.hubs.listing import Snapshot
from seatrial.models.hubs.pickles import to_safetensors
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.transport import Client, mirror
from seatrial.progress import Progress


class Fetch(msgspec.Struct, frozen=True):
    """One model under way.

    Attributes:
        client: Sends the requests.
        hub: That has the model.
        snapshot: The files that there are.
        folder: For the files, one folder in it for each commit.
        on_bytes: Told of every MiB.
        on_progress: Told in words what is going on.
    """

    client: Client
    hub: Hub
    snapshot: Snapshot
    folder: Path
    on_bytes: ByteProgress
    on_progress: Progress


def checkpoint(job: Fetch, *, allow_pickle: bool) -> Path:
    """Fetch a transformers checkpoint: configuration, preprocessor, card, weights.

    Returns:
        The folder, with the weights as safetensors: one file, or shards and their index.

    Raises:
        UnknownFamily: No family here can run the model; the weights were not fetched.
        InvalidArtifact: The repository is no checkpoint, or has pickles only.
        SourceUnavailable: The hub is gone, or serves something else than it lists.
        NotWritable: No room.
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
    # The commit is the hub's word, and no path.
    folder = job.folder / re.sub(r"[^A-Za-z0-9_-]", "-", job.snapshot.commit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise not_writable(folder, error) from error
    needed = sum(file.size_bytes for file in files)
    if needed > free:
        raise NotWritable(
            f"{folder} has room for {free:,} bytes, and {job.snapshot.repo} needs {needed:,}",
            hint="free some space, or name another folder (SEATRIAL_HOME)",
        )
    paths = [folder / PurePosixPath(file.path).name for file in files]
    for file, path in zip(files, paths, strict=True):
        if hashed and not file.checkable:
            raise SourceUnavailable(
                f"{job.hub.title} gives no hash for {file.path}: it could not be checked",
                hint=mirror(job.hub),
            )
        download(job.client, job.hub, file, path, job.on_bytes)
    return paths
