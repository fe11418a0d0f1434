"""From a reference to an artifact: resolve, select, download, check, import."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Access, ByteProgress, Source
from seatrial.models.hubs.download import not_writable
from seatrial.models.hubs.fetch import Fetch, checkpoint, single_file
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.listing import Listing, Query, Snapshot
from seatrial.models.hubs.modelscope import ModelScope
from seatrial.models.hubs.reference import Reference, parse
from seatrial.models.hubs.transport import Client
from seatrial.progress import Progress


class PullOptions(msgspec.Struct, frozen=True):
    """How a model is pulled.

    Attributes:
        access: To the hubs.
        downloads: Folder for files on their way; on the disk of the store, best.
        name: Of the artifact; made of the reference by default.
        allow_pickle: Take weights that come as a pickle only.
        on_bytes: Told of every MiB.
    """

    access: Access
    downloads: Path
    name: str = ""
    allow_pickle: bool = False
    on_bytes: ByteProgress = lambda file, done, total: None


def search(source: Source, query: Query, access: Access) -> list[Listing]:
    """Models of a hub that fit a query, best first.

    Raises:
        SourceUnavailable: The hub cannot be asked.
    """
    return _asked(source, access).search(query)


def pull(
    store: Store, text: str, options: PullOptions, *, on_progress: Progress, replace: bool = False
) -> Artifact:
    """Fetch a model from a hub and make an artifact of it.

    What is in the store already is not fetched again. Without a revision the artifact of an
    earlier pull is as good as any, and the hub is not even asked.

    Args:
        store: Where it goes.
        text: The reference, for example ``huggingface:facebook/detr-resnet-50@main``.
        options: See `PullOptions`.
        on_progress: Told in words what is going on.
        replace: Fetch again, and replace an artifact of that name with other content.

    Raises:
        InvalidInput: No such model, revision or file, or the name is taken.
        SourceUnavailable: The hub cannot be reached, refuses, or serves something else.
        InvalidArtifact: The model is not one that can be run here, or comes as a pickle.
        NotWritable: No room for the files.
    """
    from seatrial.artifact import check_name

    reference = parse(text)
    name = check_name(options.name or reference.artifact_name())
    with _only_one(options.downloads / reference.source, reference, on_progress) as folder:
        present = None if replace else _present(store, name, reference)
        if present is not None and _answers(present, reference, commit=""):
            on_progress(f"{name} is in the store already: {present.manifest.source.uri}")
            return present
        hub = options.access.hub(reference.source)
        on_progress(f"asking {hub.title} for {reference.repo}")
        snapshot = _asked(reference.source, options.access).snapshot(reference)
        if present is not None:
            if not _answers(present, reference, snapshot.commit):
                raise _moved(present, snapshot)
            on_progress(f"{name} is in the store already: {present.manifest.source.uri}")
            return present
        job = Fetch(Client(options.access), hub, snapshot, folder, options.on_bytes, on_progress)
        artifact = _import(store, name, reference, job, options, replace=replace)
        shutil.rmtree(folder, ignore_errors=True)  # the artifact has its own copy
        return artifact


def _import(
    store: Store,
    name: str,
    reference: Reference,
    job: Fetch,
    options: PullOptions,
    *,
    replace: bool,
) -> Artifact:
    from seatrial.models.import_onnx import import_onnx

    uri, licence = reference.at(job.snapshot.commit), job.snapshot.licence
    if reference.file:
        path = single_file(job, reference)
        return import_onnx(store, path, name=name, replace=replace, uri=uri, licence=licence)
    from seatrial.models import import_checkpoint

    folder = checkpoint(job, allow_pickle=options.allow_pickle)
    return import_checkpoint.import_transformers(
        store, folder, name=name, uri=uri, licence=licence, replace=replace
    )


def _asked(source: Source, access: Access) -> HuggingFace | ModelScope:
    client = Client(access)
    if source == "huggingface":
        return HuggingFace(client, access.huggingface)
    return ModelScope(client, access.modelscope)


def _present(store: Store, name: str, reference: Reference) -> Artifact | None:
    if name not in store.names():
        return None
    artifact = store.open(name)
    if artifact.manifest.source.uri.partition("@")[0] != reference.place:
        raise InvalidInput(
            f"the store already has another artifact named {name!r}: "
            f"{artifact.manifest.source.uri}",
            hint="give this one another name (--name), or replace it (--replace)",
        )
    return artifact


def _answers(artifact: Artifact, reference: Reference, commit: str) -> bool:
    """Whether an artifact of the same place is what the reference asks for."""
    have = artifact.manifest.source.uri.partition("@")[2]
    return not reference.revision or have in (reference.revision, commit)


def _moved(artifact: Artifact, snapshot: Snapshot) -> InvalidInput:
    return InvalidInput(
        f"the store has {artifact.manifest.name!r} from {artifact.manifest.source.uri}, and the "
        f"revision asked for is {snapshot.commit}",
        hint="give this one another name (--name), or replace it (--replace)",
    )


@contextlib.contextmanager
def _only_one(root: Path, reference: Reference, on_progress: Progress) -> Iterator[Path]:
    """The folder for a model's files, held by one process at a time."""
    folder = root / reference.repo.replace("/", "--")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock").open("w")
    except OSError as error:
        raise not_writable(root, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(f"another process is pulling {reference.repo}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
