"""Start-up of one server process: from a deployment to a service."""

from __future__ import annotations

import os
import platform

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Server
from seatrial.detect.detector import Detector
from seatrial.detect.opening import layout, open_detector
from seatrial.engines.base import EngineConfig
from seatrial.report.numbers import counted
from seatrial.serve.admission import Dispatcher
from seatrial.serve.cross_origin import check_origins
from seatrial.serve.decode_memory import decode_memory
from seatrial.serve.description import checked
from seatrial.serve.grpc_library import check_grpc
from seatrial.serve.health import Health
from seatrial.serve.metrics import RequestMetrics, request_metrics
from seatrial.serve.service import Service
from seatrial.serve.tls import Tls
from seatrial.serve.tokens import Tokens
from seatrial.serve.watchdog import Watchdog
from seatrial.system.hardware import usable_cores
from seatrial.system.memory import keep_little_memory, memory_left_bytes
from seatrial.system.versions import versions

# The packages that decide how a request is answered; absent ones are left out.
PACKAGES = ("bentoml", "openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch", "numpy",
            "simplejpeg")  # fmt: skip


def check(artifact: Artifact, deployment: Deployment) -> str:
    """Compile and run once, in the smallest layout: the engine is what was asked for, and works.

    Returns:
        Engine, device and precision in words.

    Raises:
        SeatrialError: See `seatrial.detect.opening.open_detector`.
    """
    check_server(deployment.server)
    most = deployment.batching.max_batch
    config = EngineConfig(
        device=deployment.device,
        precision=deployment.precision,
        max_batch=1 if most == "auto" else most,
    )
    with open_detector(artifact, deployment, config) as detector:
        engine = detector.engine
        return f"{engine.name}, {engine.device}, {engine.precision}"


def check_server(server: Server) -> None:
    """Check what a server is told of its clients, and that it can be served.

    Raises:
        InvalidConfig: A file cannot be used, or a value is wrong.
        MissingExtra: gRPC is to be served, and a package is not installed.
    """
    if server.grpc_port is not None:
        check_grpc()
    check_origins(server.cors_origins)
    Tokens(server, os.environ).close()
    if tls := Tls.of(server):
        tls.close()


def in_words(deployment: Deployment, cores: int | None = None) -> str:
    """The layout as a phrase: processes, lanes and threads."""
    workers, config = layout(deployment, cores)
    wide = f", one wide lane of {config.wide_threads} threads" if config.wide_threads else ""
    own = f"{counted(config.instances, 'lane')} x {counted(config.threads, 'thread')}{wide}"
    return f"{counted(workers, 'process', 'processes')} x {own}"


def open_service(
    artifact: Artifact,
    deployment: Deployment,
    worker: int = 0,
    beside: Service | None = None,
    name: str | None = None,
) -> Service:
    """Open all that one server process needs.

    Args:
        artifact: The model to serve.
        deployment: How to serve it.
        worker: Index of this process, from 0: with several, each keeps to its own cores.
        beside: Service that the process has already; the new one shares its name and counts.
        name: Name in the Open Inference Protocol; None: that of `beside`, or the artifact's.
    """
    # As the process found them: afterwards it has its share of the cores alone.
    cores: int = beside.description["layout"]["cores"] if beside else usable_cores()
    workers, config = layout(deployment, cores)
    if workers > 1 and beside is None:
        _keep_to_own_cores(worker, workers)
    keep_little_memory(os.environ)
    detector = open_detector(artifact, deployment, config)
    memory = (
        beside.dispatcher.memory
        if beside
        else decode_memory(
            memory_left_bytes(workers),
            deployment.limits,
            tls=deployment.server.tls_certificate is not None,
        )
    )
    dispatcher = Dispatcher(detector, deployment.limits, memory)
    batching = msgspec.structs.replace(deployment.batching, max_batch=detector.lanes.max_batch)
    in_force = msgspec.structs.replace(deployment, limits=dispatcher.limits, batching=batching)
    description = describe(detector, in_force, workers, config, cores)
    description["decode_memory_bytes"] = memory.limit_bytes
    description = checked(description)
    metrics = request_metrics(dispatcher.deadline_s)
    detector.lanes.on_place = metrics.present.inc
    detector.lanes.on_lane = metrics.lanes_busy.inc
    detector.lanes.on_batch = metrics.batch
    dispatcher.on_bytes = metrics.body_bytes_present.inc
    return Service(
        name=name or (beside.name if beside else artifact.manifest.name),
        dispatcher=dispatcher,
        detection=deployment.detection.of(artifact.manifest),
        description=description,
        metrics=metrics,
        health=beside.health if beside else Health(lambda: detector.lanes.usable),
        watchdog=Watchdog(detector, metrics.lane_fault),
        server=beside.server if beside else deployment.server,
        tokens=beside.tokens if beside else Tokens(deployment.server, os.environ),
        tls=beside.tls if beside else _tls(deployment.server, metrics, worker),
    )


def _tls(server: Server, metrics: RequestMetrics, worker: int) -> Tls | None:
    """The certificate of this process; its end is a metric, and a line of the first process."""
    tls = Tls.of(server)
    if tls is None:
        return None

    def tell() -> None:
        if tls.end_s is not None:
            metrics.certificate_ends(tls.end_s)

    tell()
    tls.on_new = tell
    if not worker:
        tls.warn()
    return tls


def describe(
    detector: Detector, deployment: Deployment, workers: int, config: EngineConfig, cores: int
) -> dict[str, object]:
    """The JSON of ``GET /model``."""
    manifest = detector.artifact.manifest
    return {
        "name": manifest.name,
        "digest": detector.artifact.digest,
        "family": manifest.family,
        "variant": manifest.variant,
        "licence": manifest.licence,
        "size_hw": manifest.preprocessing.size_hw,
        "labels": manifest.labels,
        "engine": detector.engine.name,
        "device": detector.engine.device,
        "precision": detector.engine.precision,
        "layout": {
            "workers": workers,
            "instances": config.instances,
            "threads": config.threads,
            "wide_threads": config.wide_threads,
            "cores": cores,
        },
        "batching": msgspec.to_builtins(deployment.batching),
        "detection": msgspec.to_builtins(deployment.detection.of(manifest)),
        "limits": msgspec.to_builtins(deployment.limits),
        "properties": detector.engine.properties(),
        "versions": {
            "python": platform.python_version(),
            **versions(*PACKAGES),
        },
    }


def _keep_to_own_cores(worker: int, workers: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    share = max(1, len(allowed) // workers)
    own = allowed[worker * share : (worker + 1) * share]
    os.sched_setaffinity(0, own or allowed)
