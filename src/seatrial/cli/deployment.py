"""The options with which commands describe a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from seatrial.cli.console import store
from seatrial.config import flag
from seatrial.deployment import Deployment, Precision
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.artifact import Artifact


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """A deployment file, options, or both; an option overrides the file.

    Attributes:
        model: Name in the store, an artifact folder or a model file.
        deployment: TOML file, see docs/reference/deployment.md.
        engine: openvino, onnxruntime, onnxruntime-tensorrt, tensorrt, torch, torch-compile or null
            [default: openvino].
        device: cpu or cuda; another one is never used in its place [default: cpu].
        precision: Numeric type to compute in [default: f32].
        workers: Number of server processes, 1 to 1024 [default: from the usable cores].
        instances: Number of requests that a process infers at the same time, 1 to 1024
            [default: from the usable cores].
        threads: Number of threads of each of them, 1 to 1024 [default: 1].
        wide: Keep a second compiled graph that gives a lone request all cores [default: yes].
    """

    model: str | None = None
    deployment: Path | None = None
    engine: str | None = None
    device: str | None = None
    precision: Precision | None = None
    workers: int | None = None
    instances: int | None = None
    threads: int | None = None
    wide: bool | None = None

    def resolve(self, **server: object) -> Deployment:
        """The deployment that the options describe.

        Args:
            **server: Field of `Server` or `Triton` -> value; None leaves it as it is.

        Raises:
            InvalidConfig: There is neither a model nor a file, or a value is wrong.
        """
        if self.deployment is not None:
            base = Deployment.read(self.deployment)
        elif self.model is not None:
            base = Deployment(self.model)
        else:
            raise InvalidConfig(
                "no model given",
                hint="--model NAME (see seatrial models list) or --deployment FILE",
            )
        words = {**vars(self), **server}
        del words["deployment"]
        return base.changed(words, flag)

    def open(self, deployment: Deployment) -> Artifact:
        """The artifact of the deployment that the options describe.

        Raises:
            SeatrialError: See `seatrial.models.resolve.resolve`.
        """
        from seatrial.models.resolve import resolve

        file = self.deployment if self.model is None else None
        return resolve(store(), deployment.model, deployment=file)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """The server that ``--on triton`` starts.

    Attributes:
        triton_python: With --on triton: Python of an environment with nvidia-pytriton.
        triton_image: With --on triton: image for a container, where no server is installed.
    """

    triton_python: Path | None = None
    triton_image: str | None = None

    def check(self, runtimes: Sequence[str]) -> None:
        """Check that a server of Triton is to be started where options for it are given.

        Args:
            runtimes: Names of what is started.

        Raises:
            InvalidConfig: No runtime of them is ``triton``.
        """
        if "triton" not in runtimes and self != TritonOptions():
            given = "--triton-python" if self.triton_python is not None else "--triton-image"
            raise InvalidConfig(
                f"{given} is for --on triton, and {' and '.join(runtimes)} is started",
                hint=f"leave {given} out, or serve with --on triton",
            )

    @property
    def fields(self) -> dict[str, str | None]:
        """The options as fields of `seatrial.deployment.Triton`."""
        python = self.triton_python
        return {
            "python": None if python is None else str(python.absolute()),
            "image": self.triton_image,
        }
