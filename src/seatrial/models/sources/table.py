"""The table of sources: model name to what fetches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seatrial.artifact import (
    Artifact,
    Store,
)
from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Access
from seatrial.models.import_onnx import import_onnx
from seatrial.progress import Progress

if TYPE_CHECKING:
    from seatrial.models.hubs.pull import PullOptions


def pull(
    store: Store,
    name: str,
    *,
    on_progress: Progress,
    replace: bool = False,
    hub: PullOptions | None = None,
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

        options = hub or hubs.PullOptions(Access(), store.root.parent / "downloads")
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
