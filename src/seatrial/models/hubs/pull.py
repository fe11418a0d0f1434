"""From a reference to an artifact: resolve, select, download, check, import."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.config import flag
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.manifest import check_name
from seatrial.models.facts import ModelFacts, refuse_facts
from seatrial.models.hubs.access import Access, Source
from seatrial.models.hubs.client import HubClient
from seatrial.models.hubs.fetch import Fetch, checkpoint, single_file
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.listing import Listing, Query
from seatrial.models.hubs.modelscope import ModelScope
from seatrial.models.hubs.reference import Reference, parse
from seatrial.models.import_checkpoint import import_transformers
from seatrial.models.import_onnx import import_onnx
from seatrial.progress import Progress
from seatrial.system.files import writing
from seatrial.system.locks import locked


class PullOptions(msgspec.Struct, frozen=True):
    """How a model is pulled.

    Attributes:
        access: Addresses and credentials of the hubs.
        downloads: Folder for files on their way; best on the disk of the store.
        name: Name of the artifact; default: made of the reference.
        allow_pickle: Whether weights that come as a pickle only are taken.
        told: What a person says of one ONNX file that does not say it itself.
    """

    access: Access
    downloads: Path
    name: str | None = None
    allow_pickle: bool = False
    told: ModelFacts | None = None


def search(source: Source, query: Query, access: Access) -> list[Listing]:
    """Models of a hub that fit a query, best first.

    Raises:
        SourceUnavailable: The hub cannot be asked.
    """
    return _client(source, access).search(query)


def pull(
    store: Store, text: str, options: PullOptions, *, on_progress: Progress, replace: bool = False
) -> Artifact:
    """Fetch a model from a hub and make an artifact of it.

    What is in the store already is not fetched again. Without a revision the artifact of an
    earlier pull is returned, and the hub is not asked.

    Args:
        store: Store that the artifact goes to.
        text: Reference, for example ``huggingface:facebook/detr-resnet-50@main``.
        options: Access, folder, name and permission.
        on_progress: Called with messages and with bytes.
        replace: Fetch again, and replace an artifact of that name with other content.

    Raises:
        InvalidInput: No such model, revision or file, or the name is taken.
        SourceUnavailable: The hub cannot be reached, refuses, or serves something else.
        InvalidArtifact: The model is not one that can be run here, or comes as a pickle.
        NotWritable: No room for the files.
    """
    reference = parse(text)
    if not reference.file:
        refuse_facts(options.told, f"{reference.repo} is a checkpoint, which describes itself")
    name = check_name(reference.artifact_name() if options.name is None else options.name)
    store.check_free(name, replace=True)  # of a tag
    with _only_one(options.downloads / reference.source, reference, on_progress) as folder:
        present = None if replace else _present(store, name, reference, options.told)
        if present is not None and _answers(present, reference, commit=""):
            on_progress(f"{name} is in the store already: {present.manifest.source.uri}")
            return present
        client = _client(reference.source, options.access)
        on_progress(f"asking {client.hub.title} for {reference.repo}")
        snapshot = client.snapshot(reference)
        if present is not None:
            if not _answers(present, reference, snapshot.commit):
                raise InvalidInput(
                    f"the store has {name!r} from {present.manifest.source.uri}, and the revision "
                    f"asked for is {snapshot.commit}",
                    hint="give this one another name (--name), or replace it (--replace)",
                )
            on_progress(f"{name} is in the store already: {present.manifest.source.uri}")
            return present
        job = Fetch(client, snapshot, folder, on_progress)
        uri = reference.at(snapshot.commit)
        if reference.file:
            path = single_file(job, reference)
            with _as_pull(text, path):
                artifact = import_onnx(
                    store, path, name=name, replace=replace, uri=uri, licence=snapshot.licence,
                    told=options.told,
                )  # fmt: skip
        else:
            files = checkpoint(job, allow_pickle=options.allow_pickle)
            artifact = import_transformers(
                store, files, name=name, replace=replace, uri=uri, licence=snapshot.licence
            )
        shutil.rmtree(folder, ignore_errors=True)  # the artifact has its own copy
        return artifact


def _client(source: Source, access: Access) -> HubClient:
    return HuggingFace(access) if source == "huggingface" else ModelScope(access)


@contextlib.contextmanager
def _as_pull(text: str, path: Path) -> Iterator[None]:
    """Have hints name this pull, and not an import of the file that it has fetched."""
    try:
        yield
    except InvalidArtifact as error:
        own, asked = (f"seatrial models {words}" for words in (f"import {shlex.quote(str(path))}",
                                                               f"pull {text}"))  # fmt: skip
        error.hint = error.hint.replace(own, asked)
        raise


def _present(
    store: Store, name: str, reference: Reference, told: ModelFacts | None
) -> Artifact | None:
    if name not in store.names():
        return None
    artifact = store.open(name)
    if artifact.manifest.source.uri.partition("@")[0] != reference.place:
        raise InvalidInput(
            f"the store already has another artifact named {name!r}: "
            f"{artifact.manifest.source.uri}",
            hint="give this one another name (--name), or replace it (--replace)",
        )
    stated = {} if told is None else msgspec.json.decode(msgspec.json.encode(told.given()))
    before = artifact.manifest.step.config.get("told", {})
    if other := [key for key, value in stated.items() if before.get(key) != value]:
        raise InvalidInput(
            f"{name} is in the store already, and {flag(other[0])} was not {stated[other[0]]!r} "
            "when it was imported",
            hint="give this one another name (--name), or replace it (--replace)",
        )
    return artifact


def _answers(artifact: Artifact, reference: Reference, commit: str) -> bool:
    """Whether an artifact of the same place is what the reference asks for."""
    have = artifact.manifest.source.uri.partition("@")[2]
    return not reference.revision or have in (reference.revision, commit)


@contextlib.contextmanager
def _only_one(root: Path, reference: Reference, on_progress: Progress) -> Iterator[Path]:
    """The folder for a model's files, held by one process at a time."""
    folder = root / reference.repo.replace("/", "--")
    with contextlib.ExitStack() as held:
        with writing(root, setting="SEATRIAL_HOME"):
            root.mkdir(parents=True, exist_ok=True)
            waiting = f"another process is pulling {reference.repo}; waiting for it"
            lock = folder.with_name(folder.name + ".lock")
            held.enter_context(locked(lock, on_wait=lambda: on_progress(waiting)))
        yield folder
