"""The parent of an export: its graph as ONNX, and itself as an engine to compare with."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import msgspec

from seatrial.artifact import Artifact
from seatrial.detect.families.registry import family_of
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.torch_module import ModuleEngine
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.export.options import ExportOptions, resized
from seatrial.graphs import onnx_file
from seatrial.graphs.probes import ModuleProbe, OnnxProbe, Probe
from seatrial.manifest import Manifest
from seatrial.models import description, torch_modules
from seatrial.system.extras import require


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent of an export: graph and engine.

    Attributes:
        manifest: Manifest of the graph: canvas, inputs and outputs of the export, before fusing.
        graph: ``onnx.ModelProto``, float32 (or float32 with Q/DQ nodes), uint8 images in.
        engine: The parent itself, on the same canvas.
        module: The torch module that a checkpoint runs as; None for a finished graph.
    """

    manifest: Manifest
    graph: Any
    engine: Engine
    module: Any = None

    def probe(self) -> Probe:
        """Its inner tensors, by the names that they have in the graph."""
        if self.module is None:
            return OnnxProbe(self.graph)
        return ModuleProbe(
            self.module,
            [spec.name for spec in self.manifest.inputs],
            [spec.name for spec in self.manifest.outputs],
            self.graph,
        )


def open_parent(artifact: Artifact, options: ExportOptions, *, threads: int) -> Parent:
    """Make the graph of the export, and open the parent as an engine.

    Args:
        artifact: A checkpoint, or one that has an ONNX graph.
        options: See `ExportOptions`.
        threads: Threads of the parent's engine.

    Raises:
        InvalidArtifact: It has neither, or does not load.
        InvalidInput: The options ask for what a finished graph cannot become.
        MissingExtra: A library is not installed.
    """
    if torch_modules.is_checkpoint(artifact):
        return _of_checkpoint(artifact, options)
    if "onnx" not in artifact.manifest.formats:
        have = ", ".join(artifact.manifest.formats)
        raise InvalidArtifact(
            f"{artifact.manifest.name} has no ONNX graph and no checkpoint; it has: {have}",
            hint="export its parent"
            + (f" ({artifact.manifest.parent[:12]})" if artifact.manifest.parent else ""),
        )
    return _of_graph(artifact, options, threads)


def _of_checkpoint(artifact: Artifact, options: ExportOptions) -> Parent:
    preprocessing = resized(artifact.manifest, options.imgsz)
    manifest = msgspec.structs.replace(artifact.manifest, preprocessing=preprocessing)
    size_hw = preprocessing.size_hw
    batch = -1 if options.dynamic_batch else 1
    image = msgspec.structs.replace(manifest.inputs[0], shape=(batch, *size_hw, 3))
    rest = (
        msgspec.structs.replace(spec, shape=(batch, *spec.shape[1:]))
        for spec in manifest.inputs[1:]
    )
    manifest = msgspec.structs.replace(manifest, inputs=(image, *rest))
    module = torch_modules.module_of(artifact, manifest)
    engine = ModuleEngine(module, manifest)
    outputs = engine.narrow[0].infer(torch_modules.examples(manifest))
    specs = tuple(
        msgspec.structs.replace(spec, shape=(batch, *outputs[spec.name].shape[1:]))
        for spec in manifest.outputs
    )
    manifest = msgspec.structs.replace(manifest, outputs=specs)
    family_of(manifest)  # labels and outputs fit together, or this says that they do not
    graph = torch_modules.to_onnx(module, manifest, dynamic_batch=options.dynamic_batch)
    describe(graph, manifest)
    return Parent(manifest, graph, engine, module)


def _of_graph(artifact: Artifact, options: ExportOptions, threads: int) -> Parent:
    manifest = artifact.manifest
    if manifest.precision == "int8" and options.to == "tensorrt":
        _check_quantised(manifest, options)
    elif manifest.precision != "f32":
        raise InvalidInput(
            f"{manifest.name} is {manifest.precision}: what was rounded off is gone",
            hint="export its float32 parent",
        )
    if options.imgsz not in (None, manifest.preprocessing.size_hw):
        height, width = manifest.preprocessing.size_hw
        raise InvalidInput(
            f"the graph of {manifest.name} is fixed to {height} x {width} pixels",
            hint="export the checkpoint that it was made from, with --imgsz",
        )
    if options.dynamic_batch and manifest.inputs[0].shape[0] != -1:
        raise InvalidInput(
            f"the graph of {manifest.name} is fixed to {manifest.inputs[0].shape[0]} image",
            hint="export the checkpoint that it was made from, with --dynamic-batch",
        )
    graph = onnx_file.load(artifact.file("onnx"))
    onnx_file.check_weights(graph, manifest.name)
    name = "onnxruntime" if importlib.util.find_spec("onnxruntime") else "openvino"
    engine = open_engine(artifact, name, EngineConfig(threads=threads))
    return Parent(manifest, graph, engine)


def _check_quantised(manifest: Manifest, options: ExportOptions) -> None:
    """INT8 goes to TensorRT as it is: its Q/DQ nodes say what is computed in what."""
    if options.precision != "f32" or options.fuse_nms:
        raise InvalidInput(
            f"{manifest.name} is int8, which its graph says layer by layer; TensorRT takes it as "
            "it is",
            hint="leave out --precision and --fuse-nms",
        )


def describe(graph: Any, manifest: Manifest) -> None:
    """Write into an ONNX file what it does not show, so that it can be imported by itself."""
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    if manifest.family == "yolo" and not graph.metadata_props:  # for Ultralytics' own tools
        facts = {
            "description": f"Ultralytics {manifest.name} model",
            "author": "Ultralytics",
            "license": manifest.licence,
            "task": "detect",
            "imgsz": str(list(manifest.preprocessing.size_hw)),
            "names": str(dict(enumerate(manifest.labels))),
        }
        onnx.helper.set_model_props(graph, facts)
    description.write(graph, manifest)
