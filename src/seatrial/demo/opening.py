"""Opens models by the names that are given on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from seatrial.artifact import Store
from seatrial.client.credentials import NONE, Credentials
from seatrial.demo.models import Model, Models, open_artifact, open_service
from seatrial.deployment import Deployment
from seatrial.models.resolve import resolve

DeploymentOf = Callable[[str], Deployment]
"""The deployment for a model's name: engine and layout are the same for all models."""


@dataclass(frozen=True, slots=True)
class Opener:
    """An existing model, and the function that opens it."""

    name: str
    open: Callable[[], Model]


def opener(name: str, store: Store, deployment_of: DeploymentOf) -> Opener:
    """Find a model. A model that does not exist is an error here, before anything is loaded.

    Args:
        name: Address of a service, a name in the store, an artifact folder or a model file.
        store: Store of the names, into which model files are imported.
        deployment_of: How to run it.

    Raises:
        InvalidArtifact: There is no model of that name.
        ServiceFailed: No service answers at the address.
    """
    if name.startswith(("http://", "https://")):
        return service(name)
    artifact = resolve(store, name)
    return Opener(name, partial(open_artifact, name, artifact, deployment_of(name)))


def service(url: str, credentials: Credentials = NONE) -> Opener:
    """Find a running service.

    Raises:
        InvalidConfig: The address is not an http(s) one.
        ServiceFailed: No service, or one that is no detector, answers there.
    """
    model = open_service(url, credentials)  # takes milliseconds
    return Opener(url, lambda: model)


def open_models(
    shown: Opener, rival: Opener | None, store: Store, deployment_of: DeploymentOf
) -> Models:
    """Open the model of the page, and the one to compare it with at the start.

    Args:
        shown: The model that the page is about.
        rival: The model to compare it with at the start; None for none.
        store: Store whose models can be chosen in the page.
        deployment_of: How to run those.

    Raises:
        SeatrialError: One of the two models cannot be opened; nothing stays open.
    """
    model = shown.open()
    rivals = {} if rival is None else {rival.name: rival.open}
    # The same model under another name is left out; a service of it is not.
    own = {shown.name, *([] if "url" in model.facts else [model.facts["name"]])}
    for name in store.artifacts():  # what cannot be read is not offered
        if name not in own:
            rivals.setdefault(name, partial(_open, name, store, deployment_of))
    models = Models(model, rivals, first_rival=rival.name if rival else None)
    if rival is not None:
        try:
            models.rival(rival.name)  # an error is raised here and not in the page
        except BaseException:
            models.close()
            raise
    return models


def _open(name: str, store: Store, deployment_of: DeploymentOf) -> Model:
    return opener(name, store, deployment_of).open()
