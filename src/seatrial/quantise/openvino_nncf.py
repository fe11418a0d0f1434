"""INT8 for OpenVINO, by NNCF's post-training quantisation.

Sources of the settings: NNCF's documentation of post-training quantisation (MIXED preset:
symmetric weights, asymmetric activations, for networks whose activations are not ReLU), and the
measurements in docs/guides/int8.md.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.progress import Progress
from seatrial.quantise.backend import Probe
from seatrial.quantise.calibration_images import CalibrationImages, Feeds
from seatrial.quantise.float_part import Head, find_head, openvino_nodes, stored_head
from seatrial.quantise.kernels import saturates
from seatrial.quantise.workspace import Workspace
from seatrial.system.extras import require
from seatrial.system.files import not_written
from seatrial.system.openvino_core import openvino_core

CONVOLUTIONS = ("Convolution", "GroupConvolution")
PURPOSE = "quantising for OpenVINO"
FLOAT = "float"
# Names that OpenVINO and NNCF generate, which differ from run to run.
_GENERATED = re.compile(r"[A-Za-z_]+_\d+")


class OpenVinoBackend:
    """INT8 for OpenVINO. A recipe is a way to correct biases for the mean error of rounding."""

    engine = "openvino"
    format = "openvino"
    file = "model.xml"
    # Full correction takes several times as long, and is not always better.
    recipes = ("no-bias-correction", "fast-bias-correction", "full-bias-correction")
    deployed_here = True

    def config(self) -> dict[str, Any]:
        """See `Backend.config`."""
        return {
            "algorithm": "NNCF post-training quantisation",
            "preset": "mixed",
            "weights": "int8 symmetric, per channel" + (", 7 bits" if saturates() else ""),
            "activations": "uint8 asymmetric, per tensor",
        }

    def versions(self) -> tuple[str, ...]:
        """See `Backend.versions`."""
        return ("nncf", "openvino")

    def prepare(self, parent: Artifact, work: Workspace) -> Head:
        """See `Backend.prepare`."""
        require("nncf", extra="compress", purpose=PURPOSE)
        source = parent.file("openvino" if "openvino" in parent.manifest.formats else "onnx")
        folder = work.folder(FLOAT, lambda target: self._write(_float_model(source), target))
        return work.value("head", Head, lambda: find_head(*openvino_nodes(self._read(folder))))

    def quantise(
        self, recipe: str, images: CalibrationImages, work: Workspace, on_progress: Progress
    ) -> Path:
        """See `Backend.quantise`."""
        return work.folder(
            f"graph-{recipe}",
            lambda target: self._write(self._quantised(recipe, images, work, on_progress), target),
        )

    def layers(self, folder: Path, work: Workspace) -> tuple[str, ...]:
        """See `Backend.layers`."""
        return tuple(
            node.get_friendly_name()
            for node in self._read(folder).get_ordered_ops()
            if node.get_type_name() in CONVOLUTIONS and _has_int8_weights(node)
        )

    def restore(self, folder: Path, layers: Sequence[str], target: Path, work: Workspace) -> None:
        """See `Backend.restore`."""
        op = require("openvino.opset13", extra="compress", purpose=PURPOSE)
        model, plain = self._read(folder), _by_name(self._read(work.path / FLOAT))
        nodes = _by_name(model)
        before = set(nodes)
        for name in layers:
            layer, wanted = nodes[name], plain[name]
            source = layer.input_value(0)
            while source.get_node().get_type_name() == "FakeQuantize":
                source = source.get_node().input_value(0)
            layer.input(0).replace_source_output(source)
            layer.input(1).replace_source_output(op.constant(_constant(wanted, 1)).output(0))
            bias, original = _bias(layer), _bias(wanted)
            if bias is not None:  # NNCF corrects a bias, or adds one where there is none
                value = np.zeros((1,), np.float32) if original is None else _constant(*original)
                bias[0].input(bias[1]).replace_source_output(op.constant(value).output(0))
        model.validate_nodes_and_infer_types()
        _number(model, before, "float")
        self._write(model, target)

    def accepted(self, folder: Path) -> str:
        """See `Backend.accepted`: `engine` runs the result itself."""
        return ""

    def probe(self, folder: Path | None, work: Workspace) -> Probe:
        """See `Backend.probe`."""
        model = self._read(folder or work.path / FLOAT)
        head = stored_head(work)
        nodes = _by_name(model)
        ports = model.add_outputs([nodes[name].output(0) for name in head.fed_by])
        core = openvino_core(PURPOSE, "compress")
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        places = [len(compiled.outputs) - len(ports) + index for index in range(len(ports))]

        def run(feeds: Feeds) -> list[NDArray[Any]]:
            found = compiled(feeds)
            return [np.array(found[place]) for place in places]

        return run

    def _quantised(
        self, recipe: str, images: CalibrationImages, work: Workspace, on_progress: Progress
    ) -> Any:
        nncf = require("nncf", extra="compress", purpose=PURPOSE)
        seen = 0

        def feed(file: Path) -> Feeds:
            nonlocal seen
            seen += 1
            on_progress(f"quantising, {recipe}", seen % len(images), len(images))
            return images.feed(file)

        plain = self._read(work.path / FLOAT)
        names = set(_by_name(plain))
        overflow = nncf.quantization.advanced_parameters.OverflowFix
        with _quiet(nncf):
            model = nncf.quantize(
                plain,
                nncf.Dataset(images.files, feed),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                fast_bias_correction=recipe != "full-bias-correction",
                ignored_scope=nncf.IgnoredScope(names=list(stored_head(work).nodes)),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=overflow.ENABLE if saturates() else overflow.DISABLE,
                    disable_bias_correction=recipe == "no-bias-correction",
                ),
            )
        _number(model, names, "int8")
        return model

    def _read(self, folder: Path) -> Any:
        return openvino_core(PURPOSE, "compress").read_model(folder / self.file)

    def _write(self, model: Any, folder: Path) -> None:
        ov = require("openvino", extra="compress", purpose=PURPOSE)
        try:
            ov.save_model(model, folder / self.file, compress_to_fp16=False)
        except RuntimeError as error:  # a full disk among others
            said = str(error).strip().splitlines()[-1]
            raise not_written(folder, said, setting="SEATRIAL_HOME") from error


@contextlib.contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Keep NNCF's progress bars and messages off stdout, which holds the command's data."""
    nncf.set_log_level("ERROR")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _float_model(source: Path) -> Any:
    """Read a graph, and fuse operators that NNCF and the CPU plugin treat as one.

    Without this the two operators of a SiLU get scales of their own, and are not fused into the
    convolution: YOLO11n took 37 ms instead of 29.
    """
    core = openvino_core(PURPOSE, "compress")
    transformations = require(
        "openvino._offline_transformations", extra="compress", purpose=PURPOSE
    )
    try:
        model = core.read_model(source)
    except RuntimeError as error:
        raise InvalidArtifact(
            f"OpenVINO does not read {source}: {str(error).strip().splitlines()[-1]}"
        ) from error
    _check_weights(model, source.name)
    # As openvino.convert_model does, without its telemetry.
    transformations.apply_moc_transformations(model, cf=False)
    _number(model, set(), "")
    return model


def _check_weights(model: Any, name: str) -> None:
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or not node.get_element_type().is_real():
            continue
        if np.isnan(node.get_data()).any():
            raise InvalidArtifact(
                f"{name} holds weights that are not numbers (NaN), in {node.get_friendly_name()}",
                hint="the training that wrote it diverged, or the file is damaged",
            )


def _number(model: Any, keep: set[str], prefix: str) -> None:
    """Replace generated names of nodes by their place: artifacts are hashed."""
    for index, node in enumerate(model.get_ordered_ops()):
        name, kind = node.get_friendly_name(), node.get_type_name()
        generated = name not in keep and _GENERATED.fullmatch(name)
        if generated and kind not in ("Parameter", "Result"):
            node.set_friendly_name("_".join(filter(None, (prefix, kind, str(index)))))


def _by_name(model: Any) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in model.get_ordered_ops()}


def _has_int8_weights(node: Any) -> bool:
    waiting = [node.input_value(1).get_node()]
    while waiting:
        found = waiting.pop()
        if found.get_type_name() == "Constant":
            if found.get_element_type().get_type_name() in ("i8", "u8"):
                return True
            continue
        waiting += [value.get_node() for value in found.input_values()]
    return False


def _constant(node: Any, index: int) -> NDArray[np.float32]:
    """A node's constant operand as float32; the file may hold it as float16."""
    found = node.input_value(index).get_node()
    if found.get_type_name() == "Convert":
        found = found.input_value(0).get_node()
    if found.get_type_name() != "Constant":
        raise InvalidArtifact(f"{node.get_friendly_name()}: operand {index} is not a constant")
    value: NDArray[np.float32] = found.get_data().astype(np.float32)
    return value


def _bias(layer: Any) -> tuple[Any, int] | None:
    """The addition of a constant after a convolution, and the index of the constant operand."""
    for target in layer.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() != "Add":
            continue
        other = 1 - target.get_index()
        kind = node.input_value(other).get_node().get_type_name()
        if kind in ("Constant", "Convert"):
            return node, other
    return None
