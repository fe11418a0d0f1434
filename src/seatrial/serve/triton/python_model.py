"""Models of Triton's Python backend: the detector, and its graph where no other backend runs it.

Triton starts a process for each instance of such a model, imports ``model.py`` of the repository
in it, and calls ``initialize``, ``execute`` and ``finalize`` of its class. Modules that only a
service over HTTP needs are not imported here.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.detector import Detector
from seatrial.detect.opening import layout, open_detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidInput, SeatrialError
from seatrial.serve.protocols.signatures import FOUND, IMAGE, found_tensors
from seatrial.serve.protocols.thresholds import request_options
from seatrial.serve.triton.graph_lane import GraphEngine

# Files of a version's folder in the repository.
DEPLOYMENT, MODEL = "deployment.toml", "model"
GRAPH = "graph"  # parameter of the configuration: the model that runs the graph
# Parameters that Triton's scheduler takes.
OF_TRITON = ("timeout", "priority")


def backend() -> Any:
    """The module with which a model talks to Triton; there is one in the backend's process only."""
    return importlib.import_module("triton_python_backend_utils")


def open_folder(args: Mapping[str, str]) -> tuple[Deployment, Artifact]:
    """Deployment and artifact of the version that Triton loads.

    Args:
        args: As Triton gives them to ``initialize``.
    """
    folder = Path(args["model_repository"]) / args["model_version"]
    deployment = Deployment.read(folder / DEPLOYMENT)
    # Where another model runs the graph, only the manifest is there.
    return deployment, Artifact.open(folder / MODEL, verify=not graph_of(args))


def graph_of(args: Mapping[str, str]) -> str:
    """Name of the model that runs the graph; empty where this one does."""
    found = json.loads(args["model_config"])["parameters"].get(GRAPH, {})
    return str(found.get("string_value", ""))


def lane_config(deployment: Deployment) -> EngineConfig:
    """Configuration of the engine in one process, which is one lane."""
    _, config = layout(deployment)
    return msgspec.structs.replace(config, instances=1, wide_threads=0)


class DetectorModel:
    """Encoded images in, boxes out."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the detector; Triton calls this once."""
        self._deployment, artifact = open_folder(args)
        self._default = self._deployment.detection.of(artifact.manifest)
        if graph := graph_of(args):
            # Not warmed up: the other model may not be loaded yet.
            self._detector = Detector(artifact, GraphEngine(graph, artifact.manifest, backend()))
        else:
            config = lane_config(self._deployment)
            self._detector = open_detector(artifact, self._deployment, config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request."""
        return [_answered(self._answer, request) for request in requests]

    def finalize(self) -> None:
        """Release the detector; Triton calls this once."""
        self._detector.close()

    def _answer(self, request: Any) -> list[Any]:
        """The outputs of one request: those that it wants."""
        limits = self._deployment.limits
        given = json.loads(request.parameters() or "{}")
        thresholds = {name: value for name, value in given.items() if name not in OF_TRITON}
        options = request_options(thresholds, self._default, limits.detections)
        tensor = backend().get_input_tensor_by_name(request, IMAGE.name)
        images = tensor.as_numpy().reshape(-1)
        if not 1 <= len(images) <= limits.images:
            raise InvalidInput(
                f"a request has {len(images)} images, and may have 1 to {limits.images}",
                hint="send fewer at a time, or raise limits.images of the deployment",
            )
        found = []
        for index, image in enumerate(images):
            try:
                result = self._detector.detect(image, options, max_pixels=limits.image_pixels)
            except InvalidInput as error:
                if len(images) > 1:
                    raise type(error)(f"image {index}: {error.message}", hint=error.hint) from error
                raise
            found.append(result.detections)
        data = found_tensors(found, self._detector.artifact.manifest.labels)
        wanted = request.requested_output_names()
        return [_tensor(one.name, data[one.name]) for one in FOUND if one.name in wanted]


class GraphModel:
    """The graph's own tensors in and out, by an engine of Seatrial."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine; Triton calls this once."""
        deployment, artifact = open_folder(args)
        self._engine = open_engine(artifact, deployment.engine, lane_config(deployment))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response for each request."""
        return [_answered(self._answer, request) for request in requests]

    def finalize(self) -> None:
        """Release the engine; Triton calls this once."""
        self._engine.close()

    def _answer(self, request: Any) -> list[Any]:
        feeds = {one.name(): one.as_numpy() for one in request.inputs()}
        found = self._engine.narrow[0].infer(feeds)
        wanted = request.requested_output_names()
        return [_tensor(name, array) for name, array in found.items() if name in wanted]


def _tensor(name: str, data: Any) -> Any:
    array = np.array(data, np.object_) if isinstance(data, list) else np.ascontiguousarray(data)
    return backend().Tensor(name, array)


def _answered(answer: Any, request: Any) -> Any:
    """The response to a request, whatever becomes of it: an error is an answer to it alone."""
    utils = backend()
    try:
        return utils.InferenceResponse(answer(request))
    except SeatrialError as error:
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        return utils.InferenceResponse([], _error(utils, message, error.http_status))
    except Exception as error:  # noqa: BLE001 - the boundary: a traceback is nothing for a client
        utils.Logger.log_error(f"{type(error).__name__}: {error}")
        return utils.InferenceResponse([], _error(utils, "the model failed: see the log", 500))


def _error(utils: Any, message: str, status: int) -> Any:
    kinds = utils.TritonError
    if status == 503:
        return kinds(message, kinds.UNAVAILABLE)
    return kinds(message, kinds.INTERNAL if status >= 500 else kinds.INVALID_ARG)
