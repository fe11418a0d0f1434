"""The description of the interface, ``/openapi.json`` (OpenAPI 3.1).

Schemas are made from the structs that answers are made of, so that they cannot say something else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from seatrial import __version__
from seatrial.deployment import Thresholds
from seatrial.detect.answer import Answer, Box, ImageSize
from seatrial.serve.description import Description
from seatrial.serve.protocols import inference_forms as forms
from seatrial.serve.protocols.error_body import ErrorBody, ProtocolErrorBody
from seatrial.serve.protocols.openapi_errors import (
    OF_IMAGES,
    OF_INFERENCE,
    error_components,
    error_responses,
)
from seatrial.serve.protocols.openapi_schemas import schemas_of

KINDS = (
    Answer, Description, ErrorBody, ProtocolErrorBody, Thresholds, forms.ServerMetadata,
    forms.ModelMetadata, forms.IndexEntry, forms.ModelConfiguration, forms.StatisticsAnswer,
    forms.InferenceRequest, forms.InferenceAnswer, forms.ServerLive, forms.ServerReady,
    forms.ModelReady,
)  # fmt: skip
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
PROBES = ("/livez", "/readyz", "/healthz")
# A PNG of 1 x 1 pixels.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
ANSWER = Answer(
    ImageSize(640, 426),
    [Box((5.72, 167.37, 154.68, 261.61), 0.93606, 62, "tv")],
    {"receive": 0.3, "queue": 0.1, "decode": 1.6, "preprocess": 0.1, "infer": 37.4,
     "postprocess": 0.3, "total": 39.9},
    2,
)  # fmt: skip
HEADERS = {
    "Retry-After": ("Whole seconds after which to come again.", {"type": "integer"}, 2),
    "X-Predicted-Wait-Ms": ("Time after which its answer is foretold.", {"type": "integer"}, 2400),
    "WWW-Authenticate": ("The way to show a token.", {"type": "string"}, "Bearer"),
    "X-Model-Digest": ("Digest of the artifact that answered.", {"type": "string"}, "9f86d081884c"),
    "Server-Timing": (
        "Time of each stage, milliseconds.", {"type": "string"}, "decode;dur=1.6, total;dur=39.9"
    ),
    "Inference-Header-Content-Length": (
        "Length of the JSON before binary data.", {"type": "integer"}, 412
    ),
}  # fmt: skip
TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds from the headers to the answer; default: the deployment's.",
    "schema": {"type": "integer", "minimum": 1},
    "example": 5000,
}
PRIORITY = {
    "name": "X-Request-Priority",
    "in": "header",
    "description": "A batch request waits while live ones are here, for as long as its deadline.",
    "schema": {"type": "string", "enum": ["live", "batch"]},
    "example": "live",
}
THRESHOLDS = {"confidence": 0.4, "iou": 0.5, "max_detections": 10, "multi_label": False}


def document(
    models: Sequence[str], most_detections: int, *, token: bool, metrics: bool, open_metrics: bool
) -> dict[str, Any]:
    """The description.

    Args:
        models: Names of the models in the Open Inference Protocol.
        most_detections: Largest `max_detections` that a request may ask for.
        token: Whether requests need a token.
        metrics: Whether the runtime has ``/metrics``.
        open_metrics: Whether that needs no token.
    """
    paths = {**_own_paths(most_detections), **_protocol_paths(models)}
    if metrics:
        paths["/metrics"] = {"get": _plain("metrics", "Prometheus' metrics.", 200)}
    for path in (*PROBES, *(["/metrics"] if open_metrics and metrics else [])):
        paths[path]["get"]["security"] = []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seatrial",
            "version": __version__,
            "summary": "Object detection over HTTP",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if token else [],
        "paths": paths,
        "components": {
            "schemas": schemas_of(KINDS),
            "responses": error_components(),
            "headers": {
                name: {"description": text, "schema": schema, "example": example}
                for name, (text, schema, example) in HEADERS.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _own_paths(most_detections: int) -> dict[str, Any]:
    drawn = {"schema": {"contentMediaType": "image/jpeg"}}
    shown = _json("Answer", msgspec.to_builtins(ANSWER))
    return {
        "/detect": {"post": _detect("detect", "Find objects.", shown, most_detections)},
        "/detect.jpg": {
            "post": _detect(
                "draw", "Find objects and draw them.", {"image/jpeg": drawn}, most_detections
            )
        },
        "/model": {"get": _get("model", "The model that is served.", _json("Description"))},
        "/": {"get": _plain("index", "The list of routes.", 200)},
        "/openapi.json": {
            "get": _get(
                "openapi", "This description.", {"application/json": {"schema": {"type": "object"}}}
            )
        },
        **{
            path: {"get": _plain(path[1:], f"Whether the service is {what}.", 200, 503)}
            for path, what in zip(PROBES, ("alive", "ready", "alive"), strict=True)
        },
    }


def _detect(name: str, summary: str, content: dict[str, Any], most: int) -> dict[str, Any]:
    file = {"schema": {"contentMediaType": "application/octet-stream"}}
    form = {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "string", "contentMediaType": "image/jpeg"}},
        },
        "encoding": {"image": {"contentType": ", ".join(IMAGE_TYPES)}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [*_thresholds(most), TIMEOUT, PRIORITY],
        "requestBody": {
            "required": True,
            "description": "A JPEG, PNG or WebP file.",
            "content": {**dict.fromkeys(IMAGE_TYPES, file), "multipart/form-data": form},
        },
        "responses": {
            "200": _success(content, "X-Model-Digest", "Server-Timing"),
            **error_responses(OF_IMAGES, protocol=False),
        },
    }


def _thresholds(most: int) -> Iterator[dict[str, Any]]:
    schema = schemas_of([Thresholds])["Thresholds"]["properties"]
    for name, example in THRESHOLDS.items():
        field = {key: value for key, value in schema[name].items() if key != "default"}
        text = field.pop("description")
        if name == "max_detections":
            field["maximum"] = most
        yield {
            "name": name, "in": "query", "description": text, "schema": field, "example": example
        }  # fmt: skip


def _protocol_paths(models: Sequence[str]) -> dict[str, Any]:
    metadata, stats = _json("ModelMetadata"), _json("StatisticsAnswer")
    index = {
        "application/json": {
            "schema": {"type": "array", "items": {"$ref": "#/components/schemas/IndexEntry"}}
        }
    }
    server = _json("ServerMetadata")
    paths = {
        "/v2": {"get": _get("server", "The server.", server, protocol=True)},
        "/v2/health/live": {
            "get": _state("serverLive", "Whether the server is alive.", "ServerLive")
        },
        "/v2/health/ready": {
            "get": _state("serverReady", "Whether the server is ready.", "ServerReady")
        },
        "/v2/models/stats": {
            "get": _get("allStatistics", "Statistics of all models.", stats, protocol=True)
        },
        "/v2/repository/index": {
            "post": _get("repositoryIndex", "The models.", index, protocol=True)
        },
    }
    versions = (("", ""), ("/versions/{version}", "OfVersion"))
    for below, kind in versions:
        parameters = [_path_parameter("model", models)]
        if below:
            parameters.append(_path_parameter("version", ["1"]))
        base = f"/v2/models/{{model}}{below}"
        own: dict[str, dict[str, Any]] = {
            base: {
                "get": _get(
                    f"metadata{kind}", "Inputs and outputs.", metadata, 404, protocol=True
                )
            },
            f"{base}/ready": {
                "get": _state(f"ready{kind}", "Whether the model is ready.", "ModelReady", 404)
            },
            f"{base}/config": {
                "get": _get(
                    f"configuration{kind}", "The configuration as Triton has it.",
                    _json("ModelConfiguration"), 404, protocol=True,
                )
            },
            f"{base}/stats": {
                "get": _get(
                    f"statistics{kind}", "Statistics of the model.", stats, 404, protocol=True
                )
            },
            f"{base}/infer": {"post": _infer(f"infer{kind}")},
        }  # fmt: skip
        for path in own.values():
            path["parameters"] = parameters
        paths.update(own)
    return paths


def _infer(name: str) -> dict[str, Any]:
    image = base64.b64encode(PIXEL).decode()
    asked = forms.InferenceRequest([forms.InputTensor("image", "BYTES", [1], None, [image])])
    binary = {
        "schema": {"contentMediaType": "application/octet-stream"},
    }
    length = {
        "name": "Inference-Header-Content-Length", "in": "header",
        "description": "Length of the JSON, where binary data are behind it; 0: the body is the "
        "data of the model's only input.",
        "schema": {"type": "integer", "minimum": 0},
    }  # fmt: skip
    return {
        "operationId": name,
        "summary": "Detections of encoded images, or the graph's outputs of its inputs.",
        "description": "The example is for the detector.",
        "parameters": [TIMEOUT, PRIORITY, length],
        "requestBody": {
            "required": True,
            "content": {
                **_json("InferenceRequest", msgspec.to_builtins(asked)),
                "application/octet-stream": binary,
            },
        },
        "responses": {
            "200": _success(
                {**_json("InferenceAnswer"), "application/octet-stream": binary},
                "X-Model-Digest", "Server-Timing",
            ),
            **error_responses((404, 415, 422, *OF_INFERENCE), protocol=True),
        },
    }  # fmt: skip


def _path_parameter(name: str, known: Sequence[str]) -> dict[str, Any]:
    schema = {"type": "string", "enum": list(known)}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": known[0]}


def _json(schema: str, example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _success(content: dict[str, Any], *headers: str) -> dict[str, Any]:
    shown = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {"description": "The answer.", "headers": shown, "content": content}


def _get(
    name: str, summary: str, content: dict[str, Any], *errors: int, protocol: bool = False
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _success(content), **error_responses(errors, protocol=protocol)},
    }


def _state(name: str, summary: str, schema: str, *errors: int) -> dict[str, Any]:
    """An operation whose status says all."""
    return _get(name, summary, _json(schema), *errors, protocol=True)


def _plain(name: str, summary: str, *statuses: int) -> dict[str, Any]:
    """An operation that answers with text."""
    text = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            **error_responses((), protocol=False), **{str(status): text for status in statuses}
        },
    }  # fmt: skip
