"""The table of engines. A new one is a new file and a line here."""

from __future__ import annotations

import importlib
import re
from typing import cast

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Precision
from seatrial.engines.base import Engine, EngineConfig, EngineFactory
from seatrial.errors import DeviceUnavailable, InvalidArtifact, InvalidConfig

ENGINES = {
    "openvino": "seatrial.engines.openvino:OpenVinoEngine",
    "onnxruntime": "seatrial.engines.onnxruntime:OnnxRuntimeEngine",
    "onnxruntime-tensorrt": "seatrial.engines.onnxruntime:OnnxRuntimeTensorRtEngine",
    "tensorrt": "seatrial.engines.tensorrt:TensorRtEngine",
    "torch": "seatrial.engines.torch:TorchEngine",
    "torch-compile": "seatrial.engines.torch:TorchCompileEngine",
    "null": "seatrial.engines.null:NullEngine",
}

DEVICES = ("cpu", "cuda")
ON_GPU = ("onnxruntime-tensorrt", "tensorrt")  # engines that a CPU alone cannot run
GPU_LANES = 2
SPARE_LANES = 1


def engine_class(name: str) -> EngineFactory:
    """Import an engine by its name in the table; loads no runtime.

    Raises:
        InvalidConfig: There is no such engine.
    """
    if name not in ENGINES:
        raise InvalidConfig(f"unknown engine {name!r}", hint=f"known engines: {', '.join(ENGINES)}")
    module, _, attribute = ENGINES[name].partition(":")
    return cast(EngineFactory, getattr(importlib.import_module(module), attribute))


def open_engine(artifact: Artifact, name: str, config: EngineConfig) -> Engine:
    """Compile an artifact's graph.

    Opens the first of the engine's formats that the artifact has.

    Raises:
        InvalidConfig: There is no such engine.
        InvalidArtifact: The artifact has no graph that the engine reads; see also
            `EngineFactory.__call__`.
        MissingExtra, DeviceUnavailable: See `EngineFactory.__call__`.
    """
    factory = engine_class(name)
    _check_device(config.device)
    for spec in artifact.manifest.inputs[:1]:
        if spec.shape[:1] not in ((-1,), (1,)):
            raise InvalidArtifact(
                f"{artifact.manifest.name} takes {spec.shape[0]} images at a time; an engine is "
                "given one",
                hint="import its model file again, which makes a graph for one image of it: "
                "seatrial models import FILE --replace",
            )
    if config.max_batch > 1:
        check_takes_batches(artifact)
    have = artifact.manifest.formats
    chosen = next((f for f in factory.formats if f in have), None)
    if chosen is None:
        raise _unreadable(artifact, name, factory, config.device)
    return factory(artifact.file(chosen), artifact.manifest, config)


def check_takes_batches(artifact: Artifact) -> None:
    """Check that a graph takes any number of images.

    Raises:
        InvalidConfig: It takes one at a time.
    """
    manifest = artifact.manifest
    fixed = [spec.name for spec in (*manifest.inputs, *manifest.outputs) if spec.shape[:1] != (-1,)]
    if fixed:
        raise InvalidConfig(
            f"{manifest.name} takes one image at a time: the batch size of {fixed[0]} is fixed",
            hint="leave out batching.max_batch, or export the checkpoint with --dynamic-batch",
        )


def _check_device(device: str) -> None:
    """Check the name of a device; whether the device is there, the engine finds out."""
    if device in DEVICES:
        return
    if device.lower() in DEVICES:
        raise DeviceUnavailable(
            f"there is no device {device!r}: names of devices are lower case",
            hint=f"write {device.lower()}",
        )
    if found := re.fullmatch(r"(?:cuda|gpu|nvidia)?:?(\d+(?:,\d+)*)?", device, re.IGNORECASE):
        one = f"; CUDA_VISIBLE_DEVICES={found[1]} chooses the GPU" if found[1] else ""
        raise DeviceUnavailable(
            f"there is no device {device!r}: a GPU is called cuda",
            hint=f"use --device cuda, with --engine onnxruntime or torch{one}",
        )
    raise DeviceUnavailable(
        f"there is no device {device!r}", hint=f"use --device {' or '.join(DEVICES)}"
    )


def _unreadable(
    artifact: Artifact, name: str, factory: EngineFactory, device: str
) -> InvalidArtifact:
    have = artifact.manifest.formats
    others = {"null", *(ON_GPU if device == "cpu" else ())}
    able = [
        other
        for other in ENGINES
        if other not in others and {*engine_class(other).formats} & {*have}
    ]
    return InvalidArtifact(
        f"{artifact.manifest.name} has no graph that the {name} engine reads "
        f"({', '.join(factory.formats)}); it has: {', '.join(have)}",
        hint=f"use --engine {' or '.join(able)}"
        if able
        else f"make one: seatrial export {artifact.manifest.name} --to {factory.formats[-1]} "
        "--images FOLDER",
    )


def resolve_layout(
    layout: CoreLayout, *, device: str, precision: Precision, cores: int
) -> tuple[int, EngineConfig]:
    """Complete the layout of a deployment from the usable cores.

    One thread per narrow lane gives the highest throughput on a CPU: no thread waits for another
    at a barrier. One lane more than there are cores fills the gaps between two requests of a
    lane: cores were idle 2 % of the time, and throughput rose by 3 % (benchmarks/lanes.py). One
    process feeds up to eight cores; beyond that, Python's lock on the request path would become
    the limit, so the cores are divided among more processes.

    On a GPU a lane is one request in flight: with two, one is copied while the other computes.
    Each has the whole GPU, so there is no wide lane.

    Args:
        layout: Layout of the deployment.
        device: Device of the engine.
        precision: Numeric type of the engine.
        cores: Number of cores, see `seatrial.system.hardware.usable_cores`.

    Returns:
        Number of server processes, and the configuration of the engine in each.
    """
    workers = layout.workers or max(1, -(-cores // 8))
    share = max(1, cores // workers)
    if device != "cpu":
        lanes = layout.instances or GPU_LANES
        return workers, EngineConfig(
            device=device, precision=precision, instances=lanes, threads=layout.threads or 1
        )
    threads = layout.threads or (max(1, share // layout.instances) if layout.instances else 1)
    spare = SPARE_LANES if threads == 1 else 0
    instances = layout.instances or max(1, share // threads) + spare
    # A wide lane that is no wider than a narrow one would be a second copy without a use.
    wide_threads = share if layout.wide and share > threads else 0
    return workers, EngineConfig(
        device=device,
        precision=precision,
        instances=instances,
        threads=threads,
        wide_threads=wide_threads,
    )
