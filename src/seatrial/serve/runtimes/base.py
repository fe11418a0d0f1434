"""The protocol of a runtime: a program that serves a deployment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.progress import Progress


class Launch(msgspec.Struct, frozen=True):
    """A program that takes the place of the process that prepared it.

    Attributes:
        command: Path of the program, and its arguments.
        environment: All of its environment.
    """

    command: list[str]
    environment: dict[str, str]


class Runtime(Protocol):
    """Starts a deployment in a program. The port is known: never 0."""

    def require(self) -> None:
        """Check that its packages are installed.

        Raises:
            MissingExtra: One is not.
        """

    def launch(
        self,
        artifact: Artifact,
        deployment: Deployment,
        folder: Path,
        environment: Mapping[str, str],
        on_progress: Progress,
    ) -> Launch:
        """Prepare what ``seatrial serve`` becomes; it says when it is ready.

        Args:
            artifact: The model.
            deployment: How to serve it.
            folder: Folder that may be written, of this service alone.
            environment: The caller's.
            on_progress: Called with what is found out on the way.

        Raises:
            SeatrialError: It cannot run so.
        """

    def command(
        self, folder: Path, deployment: Deployment, environment: Mapping[str, str] = os.environ
    ) -> list[str]:
        """The command that serves a folder from `seatrial.serve.service_folder.write_service`.

        Args:
            folder: The folder.
            deployment: What is written there.
            environment: Variables that the service starts with.

        Raises:
            SeatrialError: This machine lacks what the service needs.
        """

    def write(self, folder: Path, artifact: Artifact, deployment: Deployment) -> list[str]:
        """Write a folder that stands alone, for another machine.

        Returns:
            The command that a person types to serve it.
        """
