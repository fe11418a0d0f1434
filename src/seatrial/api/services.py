"""The service that a call measures: a running one, or one that is started for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial.api.home import home
from seatrial.api.loading import LoadOptions, check_model, deployment_of, open_model
from seatrial.client.credentials import NONE, Credentials
from seatrial.deployment import Deployment, RuntimeName
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.serve.process import ServiceProcess


class StartOptions(LoadOptions, total=False):
    """The options of `load`, and those of the server that ``on="triton"`` starts.

    Attributes:
        triton_python: Python of an environment with nvidia-pytriton.
        triton_image: Image for a container, where no server is installed.
    """

    triton_python: str | PathLike[str] | None
    triton_image: str | None


class NamedService:
    """The service that a call names: its address, or what is started.

    Args:
        model: As `load` takes it; with a deployment in place of the one in it.
        deployment: TOML file.
        url: Address of a running service.
        on: Runtime to start it on; None: that of the deployment.
        options: Options that were given.

    Attributes:
        file: The deployment file, where that names the model.

    Raises:
        InvalidConfig: Nothing to measure is named, or an address and what to start; or the file or
            an option is wrong.
        InvalidInput: The model is neither a name nor a path.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None,
        deployment: str | PathLike[str] | None,
        url: str | None,
        on: RuntimeName | None,
        options: StartOptions,
    ) -> None:
        if (model is None and deployment is None) == (url is None):
            raise InvalidConfig(
                "give a model or the address of a running service",
                hint='for example model="yolo11n", deployment="deployment.toml", or '
                'url="http://127.0.0.1:3000"',
            )
        if url is not None and (options or on is not None):
            given = [*options, *(["on"] if on is not None else [])]
            raise InvalidConfig(f"a running service takes no other {', '.join(given)}")
        if model is not None:
            check_model(model)
        if not isinstance(deployment, str | PathLike | None):
            raise InvalidConfig(
                f"{type(deployment).__name__} is not a deployment file",
                hint='give the path of a TOML file, for example "deployment.toml"',
            )
        self.url = url
        self._allow_pickle = options.get("allow_pickle", False)
        self.file = None if model is not None or deployment is None else Path(deployment)
        self.deployment = None if url is not None else _described(model, deployment, on, options)

    @property
    def image_pixels(self) -> int | None:
        """Largest image that the service takes, width x height; None where it is not known here."""
        return None if self.deployment is None else self.deployment.limits.image_pixels

    def open(self) -> tuple[Deployment, Artifact]:
        """The deployment that is started, and its artifact."""
        assert self.deployment is not None  # noqa: S101  there is no address
        artifact = open_model(
            self.deployment.model, allow_pickle=self._allow_pickle, deployment=self.file
        )
        return self.deployment, artifact

    @contextlib.contextmanager
    def running(
        self, on_progress: Progress, *, grpc: bool = False
    ) -> Iterator[tuple[str, Artifact | None]]:
        """The service, started where none runs, for as long as the block lasts.

        Args:
            on_progress: Called with the progress of the start.
            grpc: Start it with gRPC, and give that address.

        Yields:
            Its address, and its artifact where it was started here.
        """
        if self.url is not None:
            yield self.url, None
            return
        deployment, artifact = self.open()
        if grpc:
            deployment = deployment.changed({"grpc_port": 0})
        with started(deployment, artifact, on_progress) as service:
            yield service.grpc_url if grpc else service.url, artifact


def credentials_for(
    url: str | None, token: str | None, ca_file: str | PathLike[str] | None
) -> Credentials:
    """The credentials for a running service; none where it is started here.

    Raises:
        InvalidConfig: They are given, and no address.
    """
    if url is not None:
        return Credentials(token, ca_file)
    if token is not None or ca_file is not None:
        raise InvalidConfig("token and ca_file are for the address of a running service")
    return NONE


@contextlib.contextmanager
def started(
    deployment: Deployment, artifact: Artifact, on_progress: Progress
) -> Iterator[ServiceProcess]:
    """A service of a deployment on a free port, for as long as the block lasts."""
    from seatrial.serve.process import scratch_service
    from seatrial.serve.service_folder import environment

    folder = home() / "services"
    with scratch_service(
        deployment, artifact, folder, environment(os.environ), on_progress
    ) as service:
        yield service


def _described(
    model: str | PathLike[str] | None,
    deployment: str | PathLike[str] | None,
    on: RuntimeName | None,
    options: StartOptions,
) -> Deployment:
    """The deployment that is named, with the options in it."""
    words: dict[str, Any] = dict(options)
    words.pop("allow_pickle", None)
    python = words.pop("triton_python", None)
    server = {
        "runtime": on,
        "python": None if python is None else str(Path(str(python)).absolute()),
        "image": words.pop("triton_image", None),
    }
    if deployment is None:
        assert model is not None  # noqa: S101  one of the two is given
        return deployment_of(model, **words).changed(server)
    named = {"model": None if model is None else str(model)}
    return Deployment.read(Path(deployment)).changed({**named, **words, **server})
