"""Deployments: one TOML file that every runtime is started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from seatrial.artifact import MANIFEST
from seatrial.config import Few, Fraction, encode_toml, flag, from_options, read_toml
from seatrial.errors import InvalidConfig
from seatrial.manifest import Manifest

# Limits beyond these are typing errors: a request would be waited for for ever, or take all memory.
Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**30)]  # 32,768 x 32,768
Requests = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
WholeSeconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]
FilePath = Annotated[str, msgspec.Meta(min_length=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Precision = Literal["f32", "bf16", "f16"]
RuntimeName = Literal["bentoml", "uvicorn", "triton"]  # as in serve/runtimes/registry.py
MOST_DETECTIONS = 30_000  # of one image


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
    max_detections: Annotated[int, msgspec.Meta(ge=1, le=MOST_DETECTIONS)] = 300
    multi_label: bool = False


class DetectionDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds of a deployment, where a request names none; see `Thresholds`.

    Attributes:
        confidence: None takes the model's own.
        iou: None takes the model's own.
        max_detections: Largest number of detections reported for one image.
        multi_label: Whether an anchor may give a box for every class over the threshold.
    """

    confidence: Fraction | None = None
    iou: Fraction | None = None
    max_detections: Annotated[int, msgspec.Meta(ge=1, le=MOST_DETECTIONS)] = 300
    multi_label: bool = False

    def of(self, manifest: Manifest) -> Thresholds:
        """The thresholds for a model."""
        return Thresholds(
            manifest.confidence if self.confidence is None else self.confidence,
            manifest.iou if self.iou is None else self.iou,
            self.max_detections,
            self.multi_label,
        )


class Batching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many images a lane is given at once, where the graph takes any number of them.

    Attributes:
        max_batch: Most images of a run; 1: each alone. ``auto`` measures at start-up which number
            takes the least time for each image, and takes 1 where none is faster.
        max_delay_ms: Longest time that an image waits for others that are decoded meanwhile,
            although a lane is free. An image that no other follows never waits.
    """

    max_batch: Annotated[int, msgspec.Meta(ge=1, le=64)] | Literal["auto"] = 1
    max_delay_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a service takes on, and for how long.

    Attributes:
        body_bytes: Largest request body (413).
        image_pixels: Largest image, width x height, checked before it is decoded (413). An image
            may also take no more than 50 ns of CPU time for each of them (422).
        queue: Requests of one process that may arrive, wait or run; one more is refused before
            its body is read (503). Where half of them are here, one of a batch is refused.
        bytes_in_flight: Bytes that their bodies may take (503); half, for one of a batch.
        body_s: Time from a request's headers to the end of its body (408).
        deadline_s: Time from the end of a request's body to its answer (504); None: the longest of
            1 s, ten times the time of one image and three times that of a full run. A request that
            would not be answered by then is refused before its body is read (503). A request may
            ask for another deadline, which counts from its headers. Where it is longer, a live
            request waits no longer for that: it is refused where this one would not be met.
        longest_deadline_s: Longest time that a request may ask for.
        drain_s: On SIGTERM, how long running requests may take to finish; the service is gone
            within 2 s after that, whatever still runs.
        detections: Largest `max_detections` that a request may ask for (400), where that of the
            deployment is not larger: NMS compares each of up to 30,000 candidates with every box
            that is kept.
        connections: Open connections of one process, of which gRPC has half at most; None: what
            the limit of open files allows, with TLS also the memory, 10,000 at most. Where there is
            one more, that which waited longest is closed.
        header_s: Time from the opening of a connection, or the first byte of a later request, to
            the end of the request's headers (408).
        idle_s: Time that a connection is kept for its next request, or for its client to read.
        images: Most images in one request of the Open Inference Protocol (400).
    """

    body_bytes: Bytes = 16 * 2**20
    image_pixels: Pixels = 25_000_000
    queue: Requests = 256
    bytes_in_flight: Bytes = 256 * 2**20
    body_s: Seconds = 10.0
    deadline_s: Seconds | None = None
    longest_deadline_s: Seconds = 60.0
    drain_s: WholeSeconds = 30
    detections: Annotated[int, msgspec.Meta(ge=1, le=MOST_DETECTIONS)] = 1000
    connections: Requests | None = None
    header_s: Seconds = 10.0
    idle_s: Seconds = 75.0
    images: Few = 32


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address that the service listens on, and its log.

    Attributes:
        host: Address of an interface.
        port: 0 takes a free one.
        grpc_port: Port of the Open Inference Protocol over gRPC; 0 takes a free one, None: it is
            not served.
        drain_notice_s: On SIGTERM, how long the service goes on taking requests while ``/readyz``
            says that it ends; part of `Limits.drain_s`. At least the time in which a balancer
            notices.
        log: ``errors`` alone, or ``requests``: a line for each on standard error, too.
        token_file: File of bearer tokens, one a line; requests need one of them (401). It is read
            again when it changes. A relative path starts at the deployment file.
        open_metrics: Whether ``/metrics`` needs no token, as ``/livez``, ``/readyz`` and
            ``/healthz`` never do.
        tls_certificate: PEM file with the service's certificate and those between it and the
            authority: the service then speaks https. Read again when it changes, as its key is.
        tls_key: PEM file with its key, without a password.
        cors_origins: Origins whose pages may read answers: ``https://app.example.com``; or ``*``.
        log_format: Form of the lines: ``text`` for people, ``json`` for programs.
        runtime: What runs the server processes: ``bentoml``, with a supervisor; ``uvicorn``, one
            process alone, for containers and systemd; ``triton``, NVIDIA's server (see `Triton`).
        admin_port: Port on 127.0.0.1 that takes commands (``POST /admin/reload``); None: no port.
    """

    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Port = 3000
    grpc_port: Port | None = None
    drain_notice_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    log: Literal["errors", "requests"] = "errors"
    token_file: FilePath | None = None
    open_metrics: bool = False
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    cors_origins: tuple[str, ...] = ()
    log_format: Literal["text", "json"] = "text"
    runtime: RuntimeName = "bentoml"
    admin_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


class Triton(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Triton's server, where `Server.runtime` is ``triton``.

    Attributes:
        python: Python of an environment with ``nvidia-pytriton``, in which the models run too;
            None: an installed server, that of this Python's environment, or a container, whichever
            is there first. A relative path starts at the deployment file.
        image: Image for a container.
        backend: What runs the graph: ``auto`` takes the backend with the runtime of the engine
            where the server has it, and ``python`` otherwise.
        metrics_port: Port of the metrics; None takes a free one.
    """

    python: FilePath | None = None
    image: Annotated[str, msgspec.Meta(min_length=1)] = "nvcr.io/nvidia/tritonserver:25.06-py3"
    backend: Literal["auto", "python", "onnxruntime", "openvino", "tensorrt"] = "auto"
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


AGREEMENT = 0.5  # of boxes, for a reload


class Reload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions under which another artifact takes the place of the served one while it serves.

    Relative paths start at the deployment file.

    Attributes:
        images: Folder of images that both answer first, the first 64 by name; None: four drawn
            ones.
        agreement: Least share of boxes that both report on them, 0-1. Where it is named and above
            0, one of them has to report a box. None: `AGREEMENT`, where one of them does.
        same_family: Whether it must be of the same family.
        same_labels: Whether it must have the same classes, in the same order.
        dataset: Labelled images, as ``seatrial evaluate --dataset`` takes them.
        split: Which set of it, where it has several.
        contract: Contract whose accuracy must hold on the dataset.
    """

    images: str | None = None
    agreement: Fraction | None = None
    same_family: bool = True
    same_labels: bool = True
    dataset: str | None = None
    split: Literal["train", "val", "test"] = "val"
    contract: str | None = None

    def __post_init__(self) -> None:
        if (self.dataset is None) != (self.contract is None):
            raise ValueError("dataset and contract belong together: name both, or none")

    def below(self, folder: Path) -> Reload:
        """The same with relative paths that start at a folder."""

        def path(given: str | None) -> str | None:
            return given and str(folder / given)

        kind, colon, place = (self.dataset or "").rpartition(":")
        dataset = self.dataset and f"{kind}{colon}{path(place)}"
        images, contract = path(self.images), path(self.contract)
        return msgspec.structs.replace(self, images=images, contract=contract, dataset=dataset)


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice of artifact, engine, cores and limits.

    Attributes:
        model: Name in the store, or path of an artifact folder or of a model file. In a file, a
            relative path starts at the file; where nothing is there, at the working folder. A
            folder that is no artifact is a path with a slash in it: ``./name``.
        engine: Name in the engine table (``seatrial doctor`` lists them).
        device: ``cpu`` or ``cuda``; another device is never used in its place.
        precision: Numeric type that the engine computes in. It is explicit, since engines differ
            in their defaults: OpenVINO takes bf16 where the CPU has it.
        layout: Division of the cores.
        batching: Images that a lane is given at once.
        detection: Default thresholds of a request.
        limits: Limits above which a request is refused.
        server: Address.
        triton: Where it is served by Triton: which one.
        reload: Conditions of a reload.
    """

    model: str
    engine: str = "openvino"
    device: str = "cpu"
    precision: Precision = "f32"
    layout: CoreLayout = CoreLayout()
    detection: DetectionDefaults = DetectionDefaults()
    limits: Limits = Limits()
    batching: Batching = Batching()
    server: Server = Server()
    triton: Triton = Triton()
    reload: Reload = Reload()

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """Read a TOML file.

        Raises:
            InvalidConfig: The file cannot be read, or a key or a value is wrong, or two of them do
                not go together.
        """
        read = read_toml(path, cls)
        read.check_times(str(path))
        server = read.server
        triton, folder = read.triton, path.absolute().parent
        files = {
            name: str(folder / file)
            for name in ("token_file", "tls_certificate", "tls_key")
            if (file := getattr(server, name)) is not None
        }
        if triton.python is not None:
            triton = msgspec.structs.replace(triton, python=str(folder / triton.python))
        server = msgspec.structs.replace(server, **files)
        reload, model = read.reload.below(folder), _from_file(read.model, folder)
        return msgspec.structs.replace(
            read, model=model, server=server, triton=triton, reload=reload
        )

    def check_times(self, origin: str) -> None:
        """Check that no time is longer than the one that it is a part of.

        Args:
            origin: The file's name, for the error.

        Raises:
            InvalidConfig: One is.
        """
        limits, server = self.limits, self.server
        parts = (
            ("server.drain_notice_s", server.drain_notice_s, "limits.drain_s", limits.drain_s),
            (
                "limits.deadline_s",
                limits.deadline_s or 0.0,
                "limits.longest_deadline_s",
                limits.longest_deadline_s,
            ),
        )
        for key, seconds, longest, longest_s in parts:
            if seconds > longest_s:
                raise InvalidConfig(
                    f"{origin}: {key} is {seconds:g}, and {longest}, which bounds it, is "
                    f"{longest_s:g}",
                    hint=f"raise {longest}, or lower {key}",
                )

    def changed(
        self, words: Mapping[str, object], name: Callable[[str], str] = lambda key: key
    ) -> Deployment:
        """The deployment with other values.

        Args:
            words: Field of the deployment, `CoreLayout`, `Server` or `Triton` -> value; None leaves
                it as it is.
            name: See `seatrial.config.from_options`.

        Raises:
            InvalidConfig: A field is unknown, or its value is wrong.
        """
        plain = msgspec.to_builtins(self)
        tables = plain, plain["layout"], plain["server"], plain["triton"]
        for word, value in words.items():
            if value is not None:
                next((table for table in tables if word in table), plain)[word] = value
        return from_options(plain, Deployment, name)

    def to_toml(self) -> str:
        """The deployment as TOML text, which `read` reads back."""
        return encode_toml(self)


def server_of(**options: object) -> Server:
    """The address that options of a command name, checked as a deployment's is.

    Args:
        **options: Fields of `Server`; None leaves the default.

    Raises:
        InvalidConfig: A value is wrong: a port above 65535.
    """
    return Deployment("any").changed(options, flag).server


def _from_file(model: str, folder: Path) -> str:
    """The path of a model that lies beside a deployment file; what is not there stays as it is."""
    path = folder / model
    # A folder of images often has the name of an artifact in the store.
    named = "/" in model and path.exists()
    there = named or path.is_file() or (path / MANIFEST).is_file()
    return str(path) if there else model
