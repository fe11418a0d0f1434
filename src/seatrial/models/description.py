"""The description that Seatrial writes into its ONNX files: what a graph does not show.

A file with it is imported as the artifact that it came from, whatever made the graph.
"""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.config import decode_json
from seatrial.detect.families.base import Recognition
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing
from seatrial.system.extras import require

METADATA_KEY = "seatrial.model"


class ModelDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a manifest that are of the graph; JSON under `METADATA_KEY`."""

    family: str
    variant: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    licence: str
    confidence: float
    iou: float


def write(model: Any, manifest: Manifest) -> None:
    """Write the description into an ``onnx.ModelProto``, beside what its metadata says already."""
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    fields = {name: getattr(manifest, name) for name in ModelDescription.__struct_fields__}
    text = msgspec.json.encode(ModelDescription(**fields)).decode()
    kept = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: text})


def read(graph: GraphSignature) -> tuple[str, Recognition] | None:
    """Family and facts in a file's description; None where it has none.

    Raises:
        InvalidArtifact: It cannot be read, or is not of this graph.
    """
    if METADATA_KEY not in graph.metadata:
        return None
    origin = f"metadata {METADATA_KEY!r}"
    try:
        text = graph.metadata[METADATA_KEY].encode()
        found = decode_json(text, ModelDescription, origin=origin)
    except InvalidInput as error:
        raise InvalidArtifact(error.message, hint=error.hint) from error
    image = graph.inputs[0] if graph.inputs else None
    if image is None or image.dtype != "uint8":
        raise InvalidArtifact(
            f"{origin} is of a graph that takes uint8 images; this one has {graph.describe()}",
            hint="import the file that Seatrial wrote, or remove that metadata",
        )
    facts = Recognition(
        variant=found.variant,
        preprocessing=found.preprocessing,
        scale=1.0,  # the graph takes pixel values, 0-255, and normalises them itself
        labels=found.labels,
        classes=len(found.labels),
        confidence=found.confidence,
        iou=found.iou,
        licence=found.licence,
    )
    return found.family, facts
