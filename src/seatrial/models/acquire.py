"""From a model's source to an artifact in the store."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from seatrial.artifact import (
    MANIFEST,
    Artifact,
    Manifest,
    Source,
    Step,
    Store,
    TensorSpec,
    sha256_file,
)
from seatrial.detect.families.detr import LABELS_FILE
from seatrial.detect.families.huggingface import CONFIG, PREPROCESSOR
from seatrial.detect.families.registry import recognise
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.graphs import image_input
from seatrial.models.hubs.access import Access
from seatrial.system.wheels import Progress

if TYPE_CHECKING:
    from seatrial.models.hubs.pull import Options

SIDECARS = (CONFIG, PREPROCESSOR, LABELS_FILE)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def import_onnx(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    uri: str = "",
    licence: str = "unknown",
) -> Artifact:
    """Make an artifact of an ONNX file.

    Args:
        store: Where it goes.
        path: The file.
        name: Of the artifact; the file's stem by default.
        replace: Replace an artifact of that name with other content.
        uri: Where the file came from; its name by default.
        licence: As the source states it, for a file that does not.

    Raises:
        InvalidArtifact: The file is missing, cut off or not ONNX, or its weights are no numbers.
        UnknownFamily: It is ONNX, and no detector that is known here.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(name or path.stem.lower())
    model = image_input.load(path)
    image_input.check_weights(model, path.name)
    graph = image_input.signature(model)
    graph = msgspec.structs.replace(graph, metadata={**_beside(path), **graph.metadata})
    family, found = recognise(graph, origin=path.name)
    size = found.preprocessing.size_hw
    if graph.inputs[0].dtype != "uint8":
        image_input.add_image_input(
            model,
            scale=found.scale,
            size_hw=size,
            mean_std=found.mean_std,
            mask_input=found.mask_input,
        )
    graph = image_input.signature(model)
    image = TensorSpec(graph.inputs[0].name, "uint8", graph.inputs[0].shape, "NHWC")
    with store.staging() as folder:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        manifest = Manifest(
            name=name,
            family=family,
            variant=found.variant,
            formats={"onnx": "model.onnx"},
            precision=image_input.weights_precision(model),
            inputs=(image, *graph.inputs[1:]),
            outputs=graph.outputs,
            preprocessing=found.preprocessing,
            labels=found.labels,
            licence=licence if found.licence == "unknown" else found.licence,
            source=Source(uri or path.name, sha256_file(path)),
            step=Step("import", {"scale": found.scale, **found.facts}, versions("onnx")),
        )
        return store.commit(folder, manifest, replace=replace)


def pull(
    store: Store,
    name: str,
    *,
    on_progress: Progress,
    replace: bool = False,
    hub: Options | None = None,
) -> Artifact:
    """Fetch a model by name.

    Args:
        store: Where it goes; an artifact of that name that is there already is returned.
        name: One of `SOURCES`, or a model on a hub: ``huggingface:facebook/detr-resnet-50@main``.
        on_progress: Told in words what is going on.
        replace: Fetch again.
        hub: How a model on a hub is pulled; from the public hubs by default.

    Raises:
        InvalidInput: No such name.
        SourceUnavailable: The source cannot be reached, or gave something else.
        MissingExtra: The source needs packages that are not installed.
    """
    if ":" in name:
        from seatrial.models.hubs import pull as hubs

        options = hub or hubs.Options(Access(), store.root.parent / "downloads")
        return hubs.pull(store, name, options, on_progress=on_progress, replace=replace)
    if name not in SOURCES:
        raise InvalidInput(
            f"unknown model {name!r}",
            hint=f"known: {', '.join(SOURCES)}; a model on a hub: "
            "huggingface:facebook/detr-resnet-50; or seatrial models import FILE",
        )
    if name in store.names() and not replace:
        on_progress(f"{name} is in the store already")
        return store.open(name)
    return SOURCES[name](store, name, on_progress, replace)


def _pull_ssd(store: Store, name: str, on_progress: Progress, replace: bool) -> Artifact:
    from seatrial.models.sources import sample_ssd

    return sample_ssd.pull(store, name, on_progress, replace)


def _pull_yolo(store: Store, name: str, on_progress: Progress, replace: bool) -> Artifact:
    from seatrial.models.sources import ultralytics

    with store.staging() as folder:
        exported = ultralytics.export(name, folder, on_progress)
        return import_onnx(
            store, exported, name=name, replace=replace, uri=f"ultralytics:{name}.pt"
        )


SOURCES: dict[str, Callable[[Store, str, Progress, bool], Artifact]] = {
    "ssd-mobilenet-v2": _pull_ssd,
    **{f"yolo11{size}": _pull_yolo for size in "nsmlx"},
}


def _beside(path: Path) -> dict[str, str]:
    """Texts in the model file's folder that say what the file itself does not."""
    found = {}
    for name in SIDECARS:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found[name] = (path.parent / name).read_text(encoding="utf-8")
    return found


def check_name(name: str) -> str:
    """An artifact's name: also a folder's name and part of a URL.

    Raises:
        InvalidInput: It has characters or a length that do not fit.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name an artifact",
            hint="use a-z, 0-9, '.', '_' and '-'; the first a letter or a digit",
        )
    return name


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, for manifests and reports; packages that are absent are left out."""
    found = {}
    for package in ("seatrial", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def resolve(store: Store, model: str) -> Artifact:
    """Open what a person named: an artifact of the store, a folder, or a model file.

    A model file is imported into the store under its own name and hash, so that naming it twice
    imports it once.

    Raises:
        InvalidArtifact: There is nothing of that name or path, or it is not usable.
    """
    path = Path(model).expanduser()
    # A folder of pictures may go by the name of the model that was trained on them.
    if path.is_dir() and ((path / MANIFEST).is_file() or model not in store.names()):
        return Artifact.open(path)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise InvalidArtifact(f"{path} does not exist", hint="give the path of an .onnx file")
        stem = re.sub(r"[^a-z0-9._-]", "-", path.stem.lower()).lstrip("._-") or "model"
        name = f"{stem}-{sha256_file(path)[:8]}"
        return store.open(name) if name in store.names() else import_onnx(store, path, name=name)
    if path.is_file():
        raise InvalidArtifact(
            f"{path} is not a model file that is read here",
            hint="give an .onnx file; export others with their own tools first",
        )
    return store.open(model)
