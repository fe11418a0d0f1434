"""Checkpoints as torch modules that take uint8 images.

An export traces this module. It holds the normalisation and the mask, so that every format has
the same graph as the parent that the export is compared with.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.detect.families import huggingface
from seatrial.engines.base import of_batch
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import VALID_HW
from seatrial.manifest import Manifest
from seatrial.models.import_checkpoint import load_ultralytics
from seatrial.report.numbers import counted
from seatrial.system.extras import inner_failure, require

OPSET = 17  # the newest that all engines import
CHECKPOINTS = ("transformers", "ultralytics")


def module_of(artifact: Artifact, manifest: Manifest) -> Any:
    """A checkpoint as a ``torch.nn.Module`` with the manifest's inputs and outputs.

    Args:
        artifact: Artifact with one of `CHECKPOINTS`.
        manifest: The artifact's manifest, or the same with another canvas.

    Raises:
        InvalidArtifact: The checkpoint does not load.
        MissingExtra: The library of the checkpoint is not installed.
    """
    if "transformers" in artifact.manifest.formats:
        return _transformers(artifact, manifest)
    network = load_ultralytics(artifact.file("ultralytics")).model
    return image_module(network, manifest, scale=255.0, mean_std=None)


def _transformers(artifact: Artifact, manifest: Manifest) -> Any:
    torch = require("torch", extra="transformers", purpose="exporting transformers checkpoints")
    library = require("transformers", extra="transformers", purpose="reading checkpoints")
    folder = artifact.path
    preprocessor = folder / huggingface.PREPROCESSOR
    facts = huggingface.read(
        (folder / huggingface.CONFIG).read_bytes(),
        preprocessor.read_bytes() if preprocessor.is_file() else None,
    )
    # Anchors and positions stored for one size would be used for every other size.
    overrides = {
        name: None
        for name in ("anchor_image_size", "eval_size")
        if name in (folder / huggingface.CONFIG).read_text()
    }
    try:
        with quiet(library):
            network, report = library.AutoModelForObjectDetection.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                **overrides,
            )
    except Exception as error:  # errors of transformers, torch and backbones share no other base
        broken = inner_failure(error, package="transformers", extra="transformers")
        if broken is not None:
            raise broken from error
        raise InvalidArtifact(
            f"{artifact.manifest.name} does not load: {type(error).__name__}: {error}",
            hint="the weights may need another version of transformers",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InvalidArtifact(
            f"the checkpoint {artifact.manifest.name} lacks {counted(len(missing), 'weight')} of "
            f"its architecture, {missing[0]} first: they would be random",
            hint="fetch it again, or try another version of transformers",
        )
    return image_module(network, manifest, scale=facts.scale, mean_std=facts.mean_std)


def image_module(
    network: Any,
    manifest: Manifest,
    *,
    scale: float,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> Any:
    """A network with preprocessing in front: takes images, returns the manifest's outputs.

    Args:
        network: ``torch.nn.Module`` of transformers or Ultralytics.
        manifest: Inputs and outputs of the module.
        scale: Pixel values, 0-255, are divided by this.
        mean_std: Means and deviations of the scaled values.
    """
    torch: Any = require("torch", extra="torch", purpose="exporting checkpoints")
    names = [spec.name for spec in manifest.outputs]
    masked = VALID_HW in {spec.name for spec in manifest.inputs}
    detr = manifest.family == "detr"
    height, width = manifest.preprocessing.size_hw

    class ImageModule(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for name, values in zip(("mean", "std"), mean_std or (), strict=False):
                tensor = torch.tensor(values).reshape(1, 1, 1, 3)
                self.register_buffer(name, tensor, persistent=False)

        def forward(self, image: Any, valid_hw: Any = None) -> tuple[Any, ...]:
            """(N, H, W, 3) uint8, and (N, 2) int64 where the network is masked."""
            # In the order of `seatrial.graphs.image_input.add_image_input`.
            pixels = image.to(torch.float32) / scale
            if mean_std is not None:
                pixels = (pixels - self.mean) / self.std
            pixels = pixels.permute(0, 3, 1, 2)
            if not detr:
                answer = self.network(pixels)
                return (answer[0] if isinstance(answer, tuple | list) else answer,)
            given = {}
            if masked:
                # As transformers pads: 0 after normalisation, and 0 in the mask.
                rows = torch.arange(height)[None, :, None] < valid_hw[:, 0, None, None]
                columns = torch.arange(width)[None, None, :] < valid_hw[:, 1, None, None]
                inside = rows & columns
                pixels = pixels * inside[:, None].to(pixels.dtype)
                given["pixel_mask"] = inside.to(torch.int64)
            answer = self.network(pixel_values=pixels, **given)
            return tuple(getattr(answer, name) for name in names)

    return ImageModule().eval().requires_grad_(False)


def to_onnx(module: Any, manifest: Manifest, *, dynamic_batch: bool) -> Any:
    """Trace a module from `module_of` into an ONNX graph.

    Args:
        module: Not changed.
        manifest: Names of the inputs and outputs, canvas.
        dynamic_batch: Leave the batch size open.

    Returns:
        ``onnx.ModelProto``.

    Raises:
        InvalidArtifact: An operator has no ONNX form, or the trace fails.
    """
    torch = require("torch", extra="torch", purpose="exporting checkpoints")
    onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
    module = traceable(module, manifest, dynamic_batch=dynamic_batch)
    inputs, outputs = ([s.name for s in specs] for specs in (manifest.inputs, manifest.outputs))
    buffer = io.BytesIO()
    try:
        # The tracer warns about every size that it treats as a constant; the comparison with the
        # checkpoint afterwards shows whether the graph is right.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(torch.from_numpy(array) for array in examples(manifest).values()),
                buffer,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={n: {0: "batch"} for n in inputs + outputs} if dynamic_batch else None,
            )
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise InvalidArtifact(
            f"{manifest.name} cannot be traced: {type(error).__name__}: {error}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    for value, spec in zip(graph.graph.output, manifest.outputs, strict=True):
        # With an open batch size, the tracer leaves the other sizes open too.
        size: list[Any] = ["batch" if dynamic_batch else 1, *spec.shape[1:]]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, size))
    return graph


def traceable(module: Any, manifest: Manifest, *, dynamic_batch: bool) -> Any:
    """The module as its library needs it for tracing; the given module is not changed."""
    if manifest.family != "yolo":
        return module
    copied = copy.deepcopy(module)
    head = copied.network.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", dynamic_batch
    return copied


def examples(manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Inputs of batch size 1 to trace with: a grey image that fills the canvas."""
    found: dict[str, NDArray[Any]] = {}
    for spec in manifest.inputs:
        shape = of_batch(spec.shape)
        if spec.name == VALID_HW:
            found[spec.name] = np.array([manifest.preprocessing.size_hw], np.int64)
        else:
            found[spec.name] = np.full(shape, 114, spec.dtype)
    return found


@contextlib.contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Silence the library's progress bars and messages while a checkpoint is read."""
    logging = library.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def is_checkpoint(artifact: Artifact) -> bool:
    """Whether an artifact is a checkpoint: weights without a graph."""
    return any(name in artifact.manifest.formats for name in CHECKPOINTS)
