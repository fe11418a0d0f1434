"""Writing the formats: a graph in, the files of an artifact out."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from seatrial.deployment import Precision
from seatrial.engines import tensorrt, torch
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.registry import engine_class
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.export.options import ExportOptions
from seatrial.export.parent import Parent
from seatrial.export.report import TensorRtTrial
from seatrial.export.tensorrt_build import ENGINE_FILE, PURPOSE, build_engine
from seatrial.graphs.float16 import narrow_weights, to_float16
from seatrial.graphs.probes import OnnxProbe, OpenVinoProbe, Probe, ProgramProbe
from seatrial.graphs.tensorrt_ready import cast_images_first, validate_for_tensorrt
from seatrial.manifest import Manifest
from seatrial.models import torch_modules
from seatrial.system.extras import require
from seatrial.system.openvino_core import openvino_core

ONNX_FILE, OPENVINO_FILE, TORCH_FILE = "model.onnx", "model.xml", "model.pt2"


@dataclass(frozen=True, slots=True)
class Written:
    """An export in a staged folder.

    Attributes:
        manifest: Formats, precision, inputs and outputs; the rest is the parent's.
        engine: Name, in the engine table, of the engine that it is proven on.
        computes: Numeric type that it is proven in.
        traced: ONNX graph that names the inner tensors of a torch graph; None for other formats.
    """

    folder: Path
    manifest: Manifest
    engine: str
    computes: Precision
    traced: Any = None

    @property
    def file(self) -> Path:
        """Path of the file that the engine opens."""
        return self.folder / next(iter(self.manifest.formats.values()))

    def open(self, threads: int) -> Engine:
        """Compile it.

        Raises:
            SeatrialError: See `seatrial.engines.base.EngineFactory`.
        """
        config = EngineConfig(
            device="cuda" if self.engine == "tensorrt" else "cpu",
            precision=self.computes,
            threads=threads,
        )
        return engine_class(self.engine)(self.file, self.manifest, config)

    def probe(self) -> Probe | None:
        """Its inner tensors; None for a format that hides them."""
        if self.engine == "onnxruntime":
            onnx = require("onnx", extra="onnxruntime", purpose="comparing graphs")
            return OnnxProbe(onnx.load(self.file))
        if self.file.suffix == ".xml":
            return OpenVinoProbe(self.file, self.computes)
        if self.traced is not None:
            return ProgramProbe(self.file, self.manifest, self.traced, self.computes)
        return None

    def trial(self) -> TensorRtTrial | None:
        """Trial of an ONNX graph with TensorRT's parser and builder; None without them."""
        if self.engine != "onnxruntime" or importlib.util.find_spec("tensorrt_rtx") is None:
            return None
        try:
            problems = tuple(map(str, validate_for_tensorrt(self.file)))
        except InvalidArtifact as error:
            problems = (error.message,)
        return TensorRtTrial(f"TensorRT-RTX {version('tensorrt_rtx')}", problems)


def check_here(to: str) -> None:
    """Check that this machine has what a format needs, before anything is loaded.

    Raises:
        DeviceUnavailable: It has no GPU.
        MissingExtra: A library is not installed.
    """
    for module, extra, purpose in LIBRARIES[to]:
        require(module, extra=extra, purpose=purpose)
    if to == "tensorrt":
        tensorrt.open_gpu(PURPOSE)


def write(
    folder: Path, parent: Parent, graph: Any, manifest: Manifest, options: ExportOptions
) -> Written:
    """Write an export.

    Args:
        folder: Staged, empty.
        parent: What it starts from.
        graph: ``onnx.ModelProto`` to be written: the parent's, or with its postprocessing fused.
        manifest: Manifest of that graph.
        options: See `ExportOptions`.

    Raises:
        InvalidArtifact: The format cannot hold the graph.
        DeviceUnavailable: It can only be written on another machine.
        MissingExtra: A library is not installed.
    """
    return WRITERS[options.to](folder, parent, graph, manifest, options)


def _onnx(
    folder: Path, parent: Parent, graph: Any, manifest: Manifest, options: ExportOptions
) -> Written:
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    if options.precision == "f16":
        graph = to_float16(graph)
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise InvalidArtifact(f"the exported graph is not valid ONNX: {error}") from error
    (folder / ONNX_FILE).write_bytes(graph.SerializeToString())
    written = msgspec.structs.replace(
        manifest, formats={"onnx": ONNX_FILE}, precision=options.precision
    )
    return Written(folder, written, "onnxruntime", options.precision)


def _openvino(
    folder: Path, parent: Parent, graph: Any, manifest: Manifest, options: ExportOptions
) -> Written:
    ov = require("openvino", extra="openvino", purpose="writing OpenVINO graphs")
    file = folder / OPENVINO_FILE
    if options.precision == "f16":
        graph = narrow_weights(graph)
    try:
        # Read from memory: a file beside the export would become a part of the artifact.
        model = openvino_core("writing OpenVINO graphs").read_model(graph.SerializeToString())
        ov.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:
        _raise_if_full(folder, graph.ByteSize())
        raise InvalidArtifact(f"OpenVINO does not take the graph: {_last_line(error)}") from error
    stored = "f16" if options.precision == "f16" else "f32"
    written = msgspec.structs.replace(
        manifest, formats={"openvino": OPENVINO_FILE}, precision=stored
    )
    # Half-precision weights are widened when the graph is compiled: CPUs compute in float32.
    computes: Precision = "bf16" if options.precision == "bf16" else "f32"
    return Written(folder, written, "openvino", computes)


def _torch(
    folder: Path, parent: Parent, graph: Any, manifest: Manifest, options: ExportOptions
) -> Written:
    if parent.module is None:
        raise InvalidInput(
            f"{parent.manifest.name} is a graph: torch graphs are made of checkpoints",
            hint="export the checkpoint that it was made from",
        )
    if options.fuse_nms:
        raise InvalidInput(
            "postprocessing is not put into torch graphs", hint="leave out --fuse-nms"
        )
    module = torch_modules.traceable(parent.module, manifest, dynamic_batch=options.dynamic_batch)
    inputs = torch_modules.examples(manifest)
    try:
        torch.save(module, inputs, folder / TORCH_FILE, dynamic_batch=options.dynamic_batch)
    except RuntimeError as error:
        _raise_if_full(folder, graph.ByteSize())
        raise InvalidArtifact(
            f"PyTorch does not write {manifest.name}: {_last_line(error)}"
        ) from error
    written = msgspec.structs.replace(manifest, formats={"torch": TORCH_FILE}, precision="f32")
    return Written(folder, written, "torch", options.precision, graph)


def _tensorrt(
    folder: Path, parent: Parent, graph: Any, manifest: Manifest, options: ExportOptions
) -> Written:
    quantised = manifest.precision == "int8"
    if options.precision == "f16":
        graph = to_float16(graph)
    cast_images_first(graph)  # of graphs that were made elsewhere
    # The graph stays in the artifact: an engine is of one GPU, and another builds from the graph.
    (folder / ONNX_FILE).write_bytes(graph.SerializeToString())
    precision = "int8" if quantised else options.precision
    # The staged folder lies in the store, and so do the timings of earlier builds.
    build_engine(folder / ONNX_FILE, folder, precision=precision, earlier=folder.parent)
    written = msgspec.structs.replace(
        manifest, formats={"tensorrt": ENGINE_FILE, "onnx": ONNX_FILE}, precision=precision
    )
    return Written(folder, written, "tensorrt", options.precision)


WRITERS = {"onnx": _onnx, "openvino": _openvino, "torch": _torch, "tensorrt": _tensorrt}
# Module, the extra that installs it, and what needs it.
ONNX_LIBRARY = ("onnx", "onnxruntime", "writing ONNX files")
LIBRARIES = {
    "onnx": (ONNX_LIBRARY, ("onnxruntime", "onnxruntime", "proving ONNX graphs")),
    "openvino": (ONNX_LIBRARY, ("openvino", "openvino", "writing OpenVINO graphs")),
    "torch": (ONNX_LIBRARY, ("torch", "torch", "exporting torch graphs")),
    "tensorrt": (ONNX_LIBRARY,),
}


def _raise_if_full(folder: Path, size: int) -> None:
    """Write as much as OpenVINO could not: its message does not name a full disk.

    Raises:
        OSError: The reason why there is no room.
    """
    probe = folder / "room"
    try:
        probe.write_bytes(bytes(size))
    finally:
        probe.unlink(missing_ok=True)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
