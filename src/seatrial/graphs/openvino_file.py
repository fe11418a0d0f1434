"""OpenVINO IR files: read, described, and given an image input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import IMAGE_INPUT, Channels, GraphSignature
from seatrial.manifest import TensorSpec
from seatrial.system.extras import require
from seatrial.system.openvino_core import openvino_core

PURPOSE = "reading OpenVINO graphs"
PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "i8": "int8", "u8": "int8", "i4": "int8"}


def load(path: Path) -> Any:
    """Read an IR file, with the ``.bin`` file beside it; tensors without a name get one.

    Returns:
        ``openvino.Model``.

    Raises:
        InvalidArtifact: A file is missing, cut off or no IR, or its weights are no numbers.
    """
    core = openvino_core(PURPOSE)
    weights = path.with_suffix(".bin")
    for file, what in ((path, "the graph"), (weights, "its weights")):
        if not file.is_file():
            raise InvalidArtifact(
                f"{file} does not exist: {what} of an OpenVINO IR",
                hint="copy the whole folder that the exporter wrote: .xml and .bin",
            )
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InvalidArtifact(
            f"{path} is not a readable OpenVINO IR ({lines[-1][:200] if lines else 'no reason'})",
            hint="the files may be cut off: compare their sizes with the original",
        ) from error
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        for number, port in enumerate(ports):
            if not port.get_tensor().names:
                port.get_tensor().set_names({f"{kind}{number}"})
    for node in model.get_ops():
        stored = node.get_type_name() == "Constant" and node.get_element_type().is_real()
        if stored and np.isnan(node.get_data()).any():
            raise InvalidArtifact(
                f"{path.name} holds weights that are not numbers (NaN), in "
                f"{node.get_friendly_name()}",
                hint="the training that wrote it diverged, or the file is damaged",
            )
    return model


def signature(model: Any, metadata: Mapping[str, str]) -> GraphSignature:
    """Inputs and outputs of a model; IR files hold no metadata of their own."""
    return GraphSignature(
        inputs=tuple(map(_spec, model.inputs)),
        outputs=tuple(map(_spec, model.outputs)),
        metadata=dict(metadata),
        operators=Counter(node.get_type_name() for node in model.get_ops()),
    )


def weights_precision(model: Any) -> str:
    """``f32``, ``f16``, ``bf16`` or ``int8``: the type that most weights are stored in."""
    count: Counter[str] = Counter()
    for node in model.get_ops():
        if node.get_type_name() != "Constant":  # others may have several outputs
            continue
        kind = node.get_element_type().get_type_name()
        if kind in PRECISIONS:
            count[PRECISIONS[kind]] += int(np.prod(list(node.get_output_shape(0))))
    return count.most_common(1)[0][0] if count else "f32"


def keep_outputs(model: Any, names: Mapping[str, str]) -> None:
    """Keep some outputs of a model, under other names.

    Args:
        model: ``openvino.Model``; changed in place.
        names: Output that is kept -> its new name.
    """
    for result in model.get_results():
        port = result.output(0)
        name = _name(port)
        if name not in names:
            model.remove_result(result)
        else:
            port.get_tensor().set_names({names[name]})


def add_image_input(
    model: Any,
    *,
    scale: float,
    size_hw: tuple[int, int],
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None,
    channels: Channels,
) -> Any:
    """Put OpenVINO's preprocessing before a ``[N, 3, H, W]`` input.

    Args:
        model: ``openvino.Model``; not to be used afterwards.
        scale: Divisor of pixel values.
        size_hw: Canvas (height, width), fixed in the new input; the batch size stays as it is.
        mean_std: Means and deviations of the divided values, in the order of `channels`.
        channels: Order in which the old input takes red, green and blue.

    Returns:
        The model with the input ``image``, uint8 ``[N, H, W, 3]`` RGB.
    """
    ov = require("openvino", extra="openvino", purpose=PURPOSE)
    preprocess = require("openvino.preprocess", extra="openvino", purpose=PURPOSE)
    batch, *_ = model.input(0).get_partial_shape()
    model.reshape({model.input(0): ov.PartialShape([batch, 3, *size_hw])})
    kind = model.input(0).get_element_type()
    chain = preprocess.PrePostProcessor(model)
    image = chain.input(0)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    steps = image.preprocess().convert_element_type(ov.Type.f32)
    if channels == "bgr":
        steps.reverse_channels()
    # In the order of `seatrial.graphs.image_input.add_image_input`.
    steps.scale(float(scale))
    if mean_std is not None:
        steps.mean(list(mean_std[0])).scale(list(mean_std[1]))
    steps.convert_layout(ov.Layout("NCHW")).convert_element_type(kind)
    for number, port in enumerate(model.outputs):
        if _half(port):
            chain.output(number).tensor().set_element_type(ov.Type.f32)
    names = [set(port.get_tensor().names) for port in model.outputs]
    built = chain.build()
    for port, kept in zip(built.outputs, names, strict=True):
        port.get_tensor().set_names(kept)
    built.input(0).get_tensor().set_names({IMAGE_INPUT})
    return built


def save(model: Any, path: Path) -> None:
    """Write an IR: the ``.xml`` file and the ``.bin`` file beside it; weights keep their type."""
    ov = require("openvino", extra="openvino", purpose="writing OpenVINO graphs")
    ov.save_model(model, path, compress_to_fp16=False)


def _half(port: Any) -> bool:
    return str(port.get_element_type().get_type_name()) in ("f16", "bf16")


def _name(port: Any) -> str:
    return str(sorted(port.get_tensor().names)[0])


def _spec(port: Any) -> TensorSpec:
    shape = port.get_partial_shape()
    sizes = (
        ()
        if shape.rank.is_dynamic
        else tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape)
    )
    kind = port.get_element_type()
    try:
        dtype = np.dtype(kind.to_dtype()).name
    except (RuntimeError, TypeError):  # bf16, i4: NumPy has no such type
        dtype = str(kind.get_type_name())
    return TensorSpec(_name(port), dtype, sizes)
