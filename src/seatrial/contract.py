"""What a service is (Deployment) and what it must hold (Contract), each as a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from seatrial.config import encode_toml, read_toml

Precision = Literal["f32", "bf16", "f16"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# Above that it is a slip of the keyboard, which the machine would be brought down by.
Few = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the cores are shared out. What is left out is chosen from the usable cores.

    Attributes:
        workers: Server processes.
        instances: Narrow lanes in each process: requests inferred at the same time.
        threads: Threads of each narrow lane.
        wide: Keep one more compiled graph that spreads a lone request over all cores.
    """

    workers: Few | None = None
    instances: Few | None = None
    threads: Few | None = None
    wide: bool = True


class Detection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of the detector; a request may override them.

    Attributes:
        confidence: Lowest confidence reported.
        iou: Boxes of one class that overlap more than this are one object (NMS).
        max_detections: Most detections reported for one image.
        multi_label: An anchor may give a box for every class over the threshold (evaluation
            rules of Ultralytics) instead of its best class alone.
    """

    confidence: Fraction = 0.25
    iou: Fraction = 0.7
    max_detections: Positive = 300
    multi_label: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the service refuses.

    Attributes:
        body_bytes: Largest request body (413).
        image_pixels: Largest picture, width x height, checked before it is decoded (413).
        queue: Requests of one process that may wait or run; one more is refused (503).
        deadline_s: A request whose body takes longer to arrive gets 408; one that is not answered
            as long after its body was here gets 504.
        drain_s: On SIGTERM, how long running requests may take to finish.
    """

    body_bytes: Positive = 16 * 2**20
    image_pixels: Positive = 50_000_000
    queue: Positive = 256
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    drain_s: Positive = 30


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the service listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 3000


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One concrete choice of artifact, engine, cores and limits.

    Attributes:
        model: Name in the store, or path of an artifact folder or of a model file.
        engine: Name in the engine table (``seatrial doctor`` lists them).
        device: ``cpu`` or ``cuda``; strict: never another one silently.
        precision: Numeric type that the engine computes in; explicit, since engines differ in
            their defaults (OpenVINO takes bf16 where the CPU has it).
    """

    model: str
    engine: str = "openvino"
    device: str = "cpu"
    precision: Precision = "f32"
    layout: Layout = Layout()
    detection: Detection = Detection()
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
        """The TOML text that `read` gives this deployment back from."""
        return encode_toml(self)


class AccuracyClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Least accuracy on labelled pictures, by COCO's rules.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95 and categories, 0-1.
        ap50: At IoU 0.50.
        ar100: Recall with 100 detections a picture.
    """

    ap: Fraction | None = None
    ap50: Fraction | None = None
    ar100: Fraction | None = None


class LatencyClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Longest latency of a lone request: MLPerf's single stream, one request at a time.

    Attributes:
        at_most_ms: The percentile's upper bound at 99 % confidence must not be above.
        percentile: Which one.
    """

    at_most_ms: Annotated[float, msgspec.Meta(gt=0)]
    percentile: Literal["p50", "p90", "p99"] = "p90"


class LoadClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the service must hold while sessions press on it (closed loop).

    Attributes:
        goodput_per_s: Least goodput at the best number of sessions.
        error_rate: Largest share of failed requests at any point of the load, 0-1.
        memory_mib: Largest resident memory of all of the service's processes.
    """

    goodput_per_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    error_rate: Fraction = 0.0
    memory_mib: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a service must hold. A table that is left out asks for nothing.

    Attributes:
        name: What the verdict is headed with.
    """

    name: str = "contract"
    accuracy: AccuracyClause | None = None
    latency: LatencyClause | None = None
    load: LoadClause | None = None

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Read a TOML file.

        Raises:
            InvalidConfig: The file cannot be read, or a key or a value is wrong.
        """
        return read_toml(path, cls)
