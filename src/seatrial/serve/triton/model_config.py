"""Configurations of the two models of a deployment in Triton, as the fields of ``ModelConfig``.

Source: ``model_config.proto`` of Triton and its pages on model configuration, the rate limiter and
the Python backend.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.engines.base import of_batch
from seatrial.manifest import TensorSpec
from seatrial.serve.protocols.signatures import FOUND, GRAPH_SUFFIX, IMAGE
from seatrial.serve.protocols.tensors import BYTES, Signature
from seatrial.serve.triton.backends import NO_F32, GraphRunner
from seatrial.serve.triton.text_format import MapField, Word

Message = dict[str, object]
LABELS = "labels.txt"
WARM_UP_FILE = "image"
LANE = "lane"  # resource of the rate limiter: as many as there are lanes
# A lone request may run 1 s where the deployment says nothing else, as in the service.
DEADLINE_S = 1.0
# Part of the deadline that a request may wait. Under overload those that are let in have waited for
# as long as they may: without time for the run each of them is answered, and too late.
WAIT_SHARE = 0.75
PRIORITIES = 2  # 1: live, 2: batch, as in the service
# Processes that decode while the graph's instances compute; each takes memory.
MOST_DETECTORS = 32


class Shape(NamedTuple):
    """How the models of a deployment are divided.

    Attributes:
        lanes: Number of runs of the graph at the same time.
        threads: Number of threads of each.
        max_batch: Most images in one run of the graph.
        max_delay_ms: Longest wait for more of them, milliseconds.
    """

    lanes: int
    threads: int
    max_batch: int = 1
    max_delay_ms: float = 0.0


def detector_config(
    artifact: Artifact,
    deployment: Deployment,
    runner: GraphRunner,
    shape: Shape,
    *,
    environment: str = "",
) -> Message:
    """The detector: encoded images in, boxes out.

    Args:
        artifact: The model.
        deployment: Thresholds and limits.
        runner: What runs the graph. Python runs it in the detector's own process.
        shape: Lanes and batches.
        environment: Python environment of the model's processes, as ``EXECUTION_ENV_PATH`` takes
            it; empty for that of the server.
    """
    manifest, own = artifact.manifest, runner.backend == "python"
    thresholds = deployment.detection.of(manifest)
    # Triton has no route that describes a detector: who evaluates one reads these.
    parameters = {
        "digest": artifact.digest,
        "labels": json.dumps(manifest.labels),
        "engine": deployment.engine if own else f"triton {runner.backend}",
        "device": deployment.device,
        "precision": f"{deployment.precision} or bf16"
        if NO_F32 in runner.notes
        else deployment.precision,
        "confidence": str(thresholds.confidence),
        "iou": str(thresholds.iou),
        "max_detections": str(thresholds.max_detections),
    }
    if not own:
        parameters["graph"] = manifest.name + GRAPH_SUFFIX
    count = shape.lanes if own else min(MOST_DETECTORS, shape.lanes * shape.max_batch + 1)
    config: Message = {
        "name": manifest.name,
        "backend": "python",
        "max_batch_size": 0,
        "input": [_tensor(IMAGE)],
        "output": [
            {**_tensor(one), **({"label_filename": LABELS} if one.name == "class_ids" else {})}
            for one in FOUND
        ],
        "version_policy": {"latest": {"num_versions": 1}},
        # Processes of Python; what they run decides by itself whether it uses a GPU.
        "instance_group": [_instances(count, "KIND_CPU", limited=own)],
        "dynamic_batching": _queue(deployment),
        "parameters": _with_environment(parameters, environment),
    }
    if own:
        # Where the graph is another model, that may not be loaded yet when this one warms up.
        config["model_warmup"] = [
            {
                "name": "image",
                "batch_size": 0,
                "inputs": MapField(
                    {
                        IMAGE.name: {
                            "data_type": Word("TYPE_STRING"),
                            "dims": [1],
                            "input_data_file": WARM_UP_FILE,
                        }
                    }
                ),
            }
        ]
    return config


def graph_config(
    artifact: Artifact,
    deployment: Deployment,
    runner: GraphRunner,
    shape: Shape,
    *,
    environment: str = "",
) -> Message:
    """The graph: its own tensors in and out; see `detector_config` for the arguments."""
    manifest, own = artifact.manifest, runner.backend == "python"
    batches = not own and takes_batches(manifest.inputs, manifest.outputs)
    cut = 1 if batches else 0  # the dimension that counts images is left out there
    inputs, outputs = (
        [Signature.of(spec, of_batch(spec.shape)[cut:]) for spec in specs]
        for specs in (manifest.inputs, manifest.outputs)
    )
    kind = "KIND_CPU" if own or deployment.device == "cpu" else "KIND_GPU"
    config: Message = {
        "name": manifest.name + GRAPH_SUFFIX,
        "backend": runner.backend,
        # With 0 the server would choose one by itself for a graph that takes several.
        "max_batch_size": shape.max_batch if batches else 0,
        "input": [_tensor(one) for one in inputs],
        "output": [_tensor(one) for one in outputs],
        "version_policy": {"latest": {"num_versions": 1}},
        # In Python each instance has the graph once more, beside the detectors that have it.
        "instance_group": [_instances(1 if own else shape.lanes, kind, limited=True)],
        "dynamic_batching": _queue(deployment, shape if batches else None),
    }
    if runner.format:
        config["default_model_filename"] = artifact.file(runner.format).name
    for name, value in runner.settings.items():
        config[name] = value
    if own and environment:
        config["parameters"] = _with_environment({}, environment)
    config["model_warmup"] = [
        {
            "name": "zeros",
            "batch_size": 1 if batches else 0,
            "inputs": MapField(
                {
                    one.name: {
                        "data_type": _type(one),
                        "dims": [abs(size) for size in one.shape],
                        "zero_data": True,
                    }
                    for one in inputs
                }
            ),
        }
    ]
    return config


def takes_batches(*sides: tuple[TensorSpec, ...]) -> bool:
    """Whether the first dimension of every tensor counts images, and is open."""
    return all(spec.shape[:1] == (-1,) for specs in sides for spec in specs)


def _tensor(one: Signature) -> Message:
    return {"name": one.name, "data_type": _type(one), "dims": list(one.shape)}


def _type(one: Signature) -> Word:
    return Word("TYPE_STRING" if one.datatype == BYTES else f"TYPE_{one.datatype}")


def _instances(count: int, kind: str, *, limited: bool) -> Message:
    group: Message = {"count": count, "kind": Word(kind)}
    if limited:
        resource = {"name": LANE, "global": True, "count": 1}
        group["rate_limiter"] = {"resources": [resource]}
    return group


def _queue(deployment: Deployment, shape: Shape | None = None) -> Message:
    """The scheduler's part: batches where there are any, priorities, and what is refused."""
    limits = deployment.limits
    deadline_s = DEADLINE_S if limits.deadline_s is None else limits.deadline_s
    batches: Message = {}
    if shape is not None and shape.max_batch > 1:
        batches = {
            "preferred_batch_size": [shape.max_batch],
            "max_queue_delay_microseconds": round(1e3 * shape.max_delay_ms),
        }
    return {
        **batches,
        "priority_levels": PRIORITIES,
        "default_priority_level": 1,
        "default_queue_policy": {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": round(1e6 * WAIT_SHARE * deadline_s),
            "allow_timeout_override": True,
            "max_queue_size": limits.queue,
        },
    }


def _with_environment(parameters: dict[str, str], environment: str) -> MapField:
    if environment:
        parameters = {**parameters, "EXECUTION_ENV_PATH": environment}
    return MapField({key: {"string_value": value} for key, value in parameters.items()})
