"""Deployments: one TOML file that every runtime is started from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from seatrial.config import Few, Fraction, encode_toml, read_toml

# Limits beyond these are typing errors: a request would be waited for for ever, or take all memory.
Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**30)]  # 32,768 x 32,768
Requests = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
WholeSeconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]
Precision = Literal["f32", "bf16", "f16"]


class CoreLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the cores are divided; values that are left out follow from the usable cores.

    Attributes:
        workers: Number of server processes.
        instances: Number of narrow lanes in each process: requests inferred at the same time.
        threads: Number of threads of each narrow lane.
        wide: Whether one more compiled graph gives a lone request all cores.
    """

    workers: Few | None = None
    instances: Few | None = None
    threads: Few | None = None
    wide: bool = True


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which boxes a detector reports; a request may override those of a deployment.

    Attributes:
        confidence: Lowest confidence reported.
        iou: Boxes of one class that overlap more than this are one object (NMS).
        max_detections: Largest number of detections reported for one image.
        multi_label: Whether an anchor may give a box for every class over the threshold
            (evaluation rules of Ultralytics) instead of its best class alone.
    """

    confidence: Fraction = 0.25
    iou: Fraction = 0.7
    max_detections: Annotated[int, msgspec.Meta(ge=1, le=30_000)] = 300
    multi_label: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a service takes on, and for how long.

    Attributes:
        body_bytes: Largest request body (413).
        image_pixels: Largest image, width x height, checked before it is decoded (413).
        queue: Requests of one process that may arrive, wait or run; one more is refused before
            its body is read (503).
        deadline_s: Time from a request's headers to its answer. If its body is not here by then
            it gets 408, if its answer is not ready 504.
        drain_s: On SIGTERM, how long running requests may take to finish.
    """

    body_bytes: Bytes = 16 * 2**20
    image_pixels: Pixels = 50_000_000
    queue: Requests = 256
    deadline_s: Seconds = 30.0
    drain_s: WholeSeconds = 30


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address that the service listens on."""

    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 3000


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice of artifact, engine, cores and limits.

    Attributes:
        model: Name in the store, or path of an artifact folder or of a model file.
        engine: Name in the engine table (``seatrial doctor`` lists them).
        device: ``cpu`` or ``cuda``; another device is never used in its place.
        precision: Numeric type that the engine computes in. It is explicit, since engines differ
            in their defaults: OpenVINO takes bf16 where the CPU has it.
        layout: Division of the cores.
        detection: Default thresholds of a request.
        limits: Limits above which a request is refused.
        server: Address.
    """

    model: str
    engine: str = "openvino"
    device: str = "cpu"
    precision: Precision = "f32"
    layout: CoreLayout = CoreLayout()
    detection: Thresholds = Thresholds()
    limits: Limits = Limits()
    server: Server = Server()

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """Read a TOML file.

        Raises:
            InvalidConfig: The file cannot be read, or a key or a value is wrong.
        """
        return read_toml(path, cls)

    def to_toml(self) -> str:
        """The deployment as TOML text, which `read` reads back."""
        return encode_toml(self)
