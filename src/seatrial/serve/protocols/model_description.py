"""Metadata, configuration and statistics of the Open Inference Protocol, as plain structures."""

from __future__ import annotations

from typing import Any

from seatrial import __version__
from seatrial.serve.protocols.served_models import ProtocolModel, models
from seatrial.serve.protocols.signatures import VERSION
from seatrial.serve.protocols.tensors import BYTES, Signature
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import GRAPH, recorded_statistics

EXTENSIONS = (
    "binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics"
)  # fmt: skip
# Stages of a request -> what the statistics call them.
PHASES = {
    "queue": ("queue",),
    "compute_input": ("decode", "preprocess"),
    "compute_infer": ("infer",),
    "compute_output": ("postprocess", "encode"),
}


def server() -> dict[str, Any]:
    """The server's metadata."""
    return {"name": "seatrial", "version": __version__, "extensions": EXTENSIONS}


def metadata(service: Service, model: ProtocolModel) -> dict[str, Any]:
    """A model's metadata: its inputs and outputs."""
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": model.platform,
        "inputs": [_metadata(one) for one in model.inputs],
        "outputs": [_metadata(one) for one in model.outputs],
    }


def _metadata(one: Signature) -> dict[str, Any]:
    return {"name": one.name, "datatype": one.datatype, "shape": one.shape}


def entry(model: ProtocolModel) -> dict[str, str]:
    """A model's entry in the repository's index."""
    return {"name": model.name, "version": VERSION, "state": "READY", "reason": ""}


def index(service: Service) -> list[dict[str, str]]:
    """The repository's index: an entry for each model."""
    return [entry(one) for one in models(service)]


def configuration(service: Service, model: ProtocolModel) -> dict[str, Any]:
    """A model's configuration as Triton writes it: what a client may need to know of it.

    ``max_batch_size`` is 0: the first dimension of `IMAGE` counts images, and is a dimension like
    others.
    """
    engine = service.dispatcher.detector.engine
    found: dict[str, Any] = {
        "name": model.name,
        "platform": model.platform,
        "backend": "seatrial",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [
            {
                **_configuration(one),
                "format": "FORMAT_NONE",
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
            }
            for one in model.inputs
        ],
        "output": [
            {**_configuration(one), "label_filename": "", "is_shape_tensor": False}
            for one in model.outputs
        ],
        "instance_group": [
            {
                "name": model.name,
                "kind": "KIND_CPU" if engine.device == "cpu" else "KIND_GPU",
                "count": len(engine.narrow),
            }
        ],
        "model_transaction_policy": {"decoupled": False},
    }
    if model.kind != GRAPH:
        shown = {
            "confidence": service.detection.confidence,
            "iou": service.detection.iou,
            "max_detections": service.detection.max_detections,
        }
        found["parameters"] = {name: {"string_value": str(value)} for name, value in shown.items()}
    return found


def _configuration(one: Signature) -> dict[str, Any]:
    kind = "STRING" if one.datatype == BYTES else one.datatype
    return {"name": one.name, "data_type": f"TYPE_{kind}", "dims": one.shape}


def statistics(service: Service, model: ProtocolModel) -> dict[str, Any]:
    """A model's statistics since the service started, over all of its processes.

    They count what any route asked of the model. Failed requests have no time; nothing is cached.
    """
    found = recorded_statistics(model.kind)
    nothing = {"count": 0, "ns": 0}

    def phase(count: int, *stages: str) -> dict[str, int]:
        return {"count": count, "ns": round(1e9 * sum(found.seconds.get(s, 0.0) for s in stages))}

    row = {
        "name": model.name,
        "version": VERSION,
        "last_inference": round(1e3 * found.last_s),
        "inference_count": found.images,
        "execution_count": found.images,
        "inference_stats": {
            "success": phase(found.answered, "total"),
            "fail": {"count": found.failed, "ns": 0},
            **{name: phase(found.images, *stages) for name, stages in PHASES.items()},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": 1,
                **{
                    name: phase(found.images, *stages)
                    for name, stages in PHASES.items()
                    if name != "queue"
                },
            }
        ],
        "memory_usage": [],
    }
    return {"model_stats": [row]}


def all_statistics(service: Service) -> dict[str, Any]:
    """The statistics of all models."""
    each = [statistics(service, one) for one in models(service)]
    return {"model_stats": [row for one in each for row in one["model_stats"]]}


async def shared_statistics(serving: Serving, model: ProtocolModel | None = None) -> dict[str, Any]:
    """The statistics of a model, or of all; who asks meanwhile gets the same.

    They are in files of other processes, too: a thread reads them.
    """
    if model is None:
        return await serving.shared("statistics", lambda: all_statistics(serving.live))
    name = ("statistics", model.name)
    return await serving.shared(name, lambda: statistics(serving.live, model))
