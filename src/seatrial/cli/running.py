"""The service that a command measures: the one at ``--url``, or one started for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial.cli.console import progress
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.errors import InvalidConfig
from seatrial.system.files import check_folder

if TYPE_CHECKING:
    from seatrial.artifact import Artifact


def check_images(images: Path) -> None:
    """Check that the images that are named are there, before it is said what else is missing.

    Raises:
        InvalidDataset: There is no such folder or file.
    """
    if not images.is_file():
        check_folder(images, hint="give a folder of JPEG, PNG or WebP files, or one of them")


def check_named(url: str | None, options: DeploymentOptions) -> None:
    """Check that a service or a model is named.

    Raises:
        InvalidConfig: There is no address, no model and no deployment.
    """
    if url is None and options.model is None and options.deployment is None:
        raise InvalidConfig(
            "no model given",
            hint="--model NAME (see seatrial models list), --deployment FILE, or --url ADDRESS of "
            "a running service",
        )


def check_service(url: str | None, options: DeploymentOptions) -> None:
    """Check that there is a service to measure, and that a running one is not to be changed.

    Raises:
        InvalidConfig: Neither an address nor a model is given, or an address and options.
    """
    check_named(url, options)
    if url is not None and options != DeploymentOptions():
        raise InvalidConfig(
            "--url measures a running service; it cannot be given another model or layout",
            hint="leave --url out to start a service with these options",
        )


def image_pixels(url: str | None, options: DeploymentOptions) -> int | None:
    """Largest image that the service takes, width x height; None where that is not known here."""
    return None if url is not None else options.resolve().limits.image_pixels


@contextlib.contextmanager
def running_service(
    url: str | None,
    options: DeploymentOptions,
    *,
    grpc: bool = False,
    triton: TritonOptions | None = None,
    **server: object,
) -> Iterator[tuple[str, Artifact | None]]:
    """A running service: the one given, or one that is started for as long as the block lasts.

    Args:
        url: Address of a running one.
        options: What to start where there is none.
        grpc: Start it with gRPC, and give that address.
        triton: The server that the runtime ``triton`` starts.
        **server: See `DeploymentOptions.resolve`.

    Yields:
        Its address, and its artifact where it was started here.
    """
    if url is not None:
        yield url, None
        return
    fields = {} if triton is None else triton.fields
    deployment = options.resolve(grpc_port=0 if grpc else None, **fields, **server)
    if triton is not None:
        triton.check([deployment.server.runtime])
    from seatrial.api.services import started

    artifact = options.open(deployment)
    with started(deployment, artifact, progress) as service:
        yield service.grpc_url if grpc else service.url, artifact
