"""From the names that a person gives to models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from seatrial.artifact import Store
from seatrial.demo.models import Model, Models, open_artifact, open_service
from seatrial.deployment import Deployment
from seatrial.models.resolve import resolve

DeploymentOf = Callable[[str], Deployment]
"""Gives the deployment of a model that is named: the same engine and layout for all."""


@dataclass(frozen=True, slots=True)
class Opener:
    """A model that is there, and what opens it."""

    name: str
    open: Callable[[], Model]


def opener(name: str, store: Store, deployment_of: DeploymentOf) -> Opener:
    """Find a model. One that is not there is an error now, before anything is loaded.

    Args:
        name: Address of a service; or, as everywhere, a name in the store, an artifact folder or
            a model file.
        store: Where names are looked up, and where model files are imported.
        deployment_of: How to run it.

    Raises:
        InvalidArtifact: There is nothing of that name.
        ServiceFailed: Nobody answers at the address.
    """
    if name.startswith(("http://", "https://")):
        return service(name)
    artifact = resolve(store, name)
    return Opener(name, partial(open_artifact, name, artifact, deployment_of(name)))


def service(url: str) -> Opener:
    """Find a service that runs.

    Raises:
        InvalidConfig: Not an http(s) address.
        ServiceFailed: Nobody answers there, or no detector.
    """
    model = open_service(url)  # a matter of milliseconds
    return Opener(url, lambda: model)


def open_models(
    shown: Opener, rival: Opener | None, store: Store, deployment_of: DeploymentOf
) -> Models:
    """Open what is shown and what it is first compared with.

    Args:
        shown: The model that the page is about.
        rival: To begin with; None for none.
        store: Its other models can be compared with, too.
        deployment_of: How to run those.

    Raises:
        SeatrialError: One of the two cannot be opened; nothing stays open.
    """
    model = shown.open()
    rivals = {} if rival is None else {rival.name: rival.open}
    # The same model by another name is no rival; a service of it is.
    own = {shown.name, *([] if "url" in model.facts else [model.facts["name"]])}
    for name in store.names():
        if name not in own:
            rivals.setdefault(name, partial(_open, name, store, deployment_of))
    models = Models(model, rivals, first_rival=rival.name if rival else None)
    if rival is not None:
        try:
            models.rival(rival.name)  # what cannot be opened is told now, not in the page
        except BaseException:
            models.close()
            raise
    return models


def _open(name: str, store: Store, deployment_of: DeploymentOf) -> Model:
    return opener(name, store, deployment_of).open()
