"""The table of sources: a model's name to the function that fetches it."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidInput, did_you_mean
from seatrial.models.facts import refuse_facts
from seatrial.models.hubs import pull as hubs
from seatrial.models.hubs.access import Access
from seatrial.progress import Progress

# Name -> "module:function", imported on use.
SOURCES = {
    "ssd-mobilenet-v2": "seatrial.models.sources.sample_ssd:pull",
    **{f"yolo11{size}": "seatrial.models.sources.ultralytics:pull" for size in "nsmlx"},
}


class Source(Protocol):
    """Fetches a model and makes an artifact of it."""

    def __call__(
        self, store: Store, name: str, on_progress: Progress, *, replace: bool
    ) -> Artifact:
        """Fetch the model of that name.

        Args:
            store: Store that the artifact goes to.
            name: Key of `SOURCES`; name of the artifact too.
            on_progress: Called with messages.
            replace: Replace an artifact of that name with other content.

        Raises:
            SourceUnavailable: The source cannot be reached, or gave something else.
            InvalidArtifact: The model does not load or does not export.
            MissingExtra: The source needs packages that are not installed.
        """


def pull(
    store: Store,
    name: str,
    *,
    on_progress: Progress,
    replace: bool = False,
    hub: hubs.PullOptions | None = None,
) -> Artifact:
    """Fetch a model by name.

    Args:
        store: Store that the artifact goes to; one of that name that is there is returned.
        name: One of `SOURCES`, or a model on a hub: ``huggingface:facebook/detr-resnet-50@main``.
        on_progress: Called with messages, and with bytes of models on hubs.
        replace: Fetch again.
        hub: How a model on a hub is pulled; default: from the public hubs.

    Raises:
        InvalidInput: No such name.
        SourceUnavailable: The source cannot be reached, or gave something else.
        MissingExtra: The source needs packages that are not installed.
    """
    if ":" in name:
        options = hub or hubs.PullOptions(Access(), store.root.parent / "downloads")
        return hubs.pull(store, name, options, on_progress=on_progress, replace=replace)
    refuse_facts(None if hub is None else hub.told, f"{name} is known here")
    if name not in SOURCES:
        near = did_you_mean(name, SOURCES, otherwise="")
        raise InvalidInput(
            f"unknown model {name!r}",
            hint=f"{near} known: {', '.join(SOURCES)}; a model on a hub: "
            "huggingface:facebook/detr-resnet-50; or seatrial models import FILE".lstrip(),
        )
    if name in store.names() and not replace:
        on_progress(f"{name} is in the store already")
        return store.open(name)
    store.check_free(name, replace=True)  # of a tag
    module, _, function = SOURCES[name].partition(":")
    source = cast(Source, getattr(importlib.import_module(module), function))
    return source(store, name, on_progress, replace=replace)
