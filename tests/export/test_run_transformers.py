"""Checkpoints of transformers: torch, ONNX Runtime and OpenVINO answer alike, as transformers does.

Small networks of the real architectures, random weights, seeded.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.accuracy.limits import LIMITS
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.torch_module import ModuleEngine
from seatrial.errors import InvalidArtifact
from seatrial.export import formats, run, verify
from seatrial.export.options import ExportOptions
from seatrial.export.output_errors import output_errors
from seatrial.export.parent import Parent, open_parent
from seatrial.export.report import TensorRtTrial, read_report
from seatrial.export.run import export
from seatrial.export.tolerances import widened
from seatrial.graphs import first_difference
from seatrial.graphs.float16 import to_float16
from seatrial.graphs.fuse_nms import fuse
from seatrial.graphs.probes import OnnxProbe, OpenVinoProbe, Probe
from seatrial.graphs.tensorrt_ready import validate_for_tensorrt
from seatrial.models.import_checkpoint import import_transformers
from seatrial.models.import_onnx import import_onnx

KINDS = ("detr", "rt_detr", "rt_detr_v2", "d_fine")
READY = ("detr", "d_fine")  # both kinds of attention
TRIED = "detr"  # when it is exported, too
EVERYTHING = Thresholds(confidence=0.0, max_detections=1000)
# Tracing, and libraries that warn of what they do themselves.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
        reason="seatrial[transformers] is not installed",
    ),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module", autouse=True)
def trials() -> Iterator[None]:
    """TensorRT tries the graph whose report is read here, not each: seconds of building."""
    plain = formats.Written.trial

    def trial(written: formats.Written) -> TensorRtTrial | None:
        manifest = written.manifest
        read = manifest.name == TRIED and manifest.variant != "native"
        plain_one = written.computes == "f32" and manifest.inputs[0].shape[0] == -1
        return plain(written) if read and plain_one else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats.Written, "trial", trial)
        yield


@pytest.fixture(scope="module")
def parents(checkpoints: dict[str, Artifact]) -> dict[str, Parent]:
    """Kind -> traced graph of an open batch size, and the module itself."""
    asked = ExportOptions("onnx", dynamic_batch=True)
    return {kind: open_parent(checkpoints[kind], asked, threads=1) for kind in KINDS}


def answers(parent: Parent, folder: Path, limit: int = 16) -> verify.Answers:
    images = verify.read_images(folder, limit)
    return verify.answer(parent.manifest, parent.engine, images, multi_label=False)


Export = Callable[[Store, str, ExportOptions], Artifact]


@pytest.fixture(scope="module")
def export_traced(
    checkpoints: dict[str, Artifact], parents: dict[str, Parent], cell_images: Path
) -> Export:
    """Exports a kind from its graph in `parents`: tracing is most of the time of an export."""

    def make(store: Store, kind: str, options: ExportOptions) -> Artifact:
        parent = parents[kind]
        # An export closes its parent's engine.
        opened = replace(parent, engine=ModuleEngine(parent.module, parent.manifest))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "open_parent", lambda *_, **__: opened)
            return export(store, checkpoints[kind], options, images=cell_images)

    return make


@pytest.fixture(scope="module")
def exported(
    export_traced: Export, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    """(Kind, format) -> artifact of an open batch size."""
    store = Store(tmp_path_factory.mktemp("exported"))
    return {
        (kind, to): export_traced(store, kind, ExportOptions(to, dynamic_batch=True))
        for kind in KINDS
        for to in ("onnx", "openvino")
    }  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_torch_onnx_runtime_and_openvino_agree_on_raw_outputs(
    parents: dict[str, Parent],
    exported: dict[tuple[str, str], Artifact],
    cell_images: Path,
    kind: str,
) -> None:
    """Of several images at once; an export has agreed on one by one, else there is none."""
    parent, count = parents[kind], 4
    seen = verify.answer(
        parent.manifest, parent.engine, verify.read_images(cell_images), multi_label=False
    )
    feeds = {n: np.concatenate([one[n] for one in seen.feeds[:count]]) for n in seen.feeds[0]}
    if kind == "detr":
        assert len({tuple(row) for row in feeds["valid_hw"].tolist()}) > 1  # of different sizes
    wanted = parent.engine.narrow[0].infer(feeds)
    ordered = kind == "detr"  # the others pick their queries by score
    for probe in (
        OnnxProbe(parent.graph),
        OpenVinoProbe(exported[kind, "openvino"].file("openvino"), "f32"),
    ):
        found = probe.values(list(wanted), feeds)
        for index in range(count):
            errors = output_errors(
                [{n: wanted[n][index : index + 1] for n in wanted}],
                [{n: found[n][index : index + 1] for n in wanted}],
                ordered=ordered,
                limit=1e-3,
            )
            assert all(one.within == 1.0 for one in errors), errors
            assert max(one.worst for one in errors) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_depend_on_the_neighbours_in_a_batch(
    parents: dict[str, Parent], cell_images: Path, kind: str
) -> None:
    parent = parents[kind]
    seen = verify.answer(
        parent.manifest, parent.engine, verify.read_images(cell_images), multi_label=False
    )
    probe = OnnxProbe(parent.graph)
    (error, *_) = verify.batch_errors(parent.manifest, probe, seen, ordered=kind == "detr")
    assert error.within == 1.0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_those_of_transformers_from_the_file_on(
    transformers: Any,
    exported: dict[tuple[str, str], Artifact],
    snapshots: dict[str, Path],
    cell_images: Path,
    large_images: Path,
    kind: str,
    engine: str,
) -> None:
    import torch

    library = importlib.import_module(
        "transformers.models.detr.image_processing_pil_detr"
        if kind == "detr"
        else "transformers.models.rt_detr.image_processing_pil_rt_detr"
    )
    name = "DetrImageProcessorPil" if kind == "detr" else "RTDetrImageProcessorPil"
    processor = getattr(library, name).from_pretrained(snapshots[kind])
    extra = {"pad_size": {"height": 160, "width": 160}} if kind == "detr" else {}
    model = transformers.AutoModelForObjectDetection.from_pretrained(snapshots[kind]).eval()
    artifact = exported[kind, "onnx" if engine == "onnxruntime" else "openvino"]
    config = EngineConfig()
    with Detector(artifact, open_engine(artifact, engine, config)) as detector:
        for file in sorted((*cell_images.glob("*.png"), *large_images.glob("*.png"))):
            picture = Image.open(file)
            with torch.no_grad():
                answer = model(**processor(picture, return_tensors="pt", **extra))
            (wanted,) = processor.post_process_object_detection(
                answer, threshold=0.0, target_sizes=[picture.size[::-1]]
            )
            found = detector.detect(file.read_bytes(), EVERYTHING).detections
            limit = np.array([*picture.size, *picture.size])
            order = np.argsort(-wanted["scores"].numpy(), kind="stable")
            boxes = np.clip(wanted["boxes"].numpy()[order], 0, limit)
            assert len(found) == len(boxes)
            # Pixels may differ by one grey level where OpenCV resized and not PIL.
            share, limit_off = (1.0, 1e-3) if file.parent == large_images else (0.95, 5e-3)
            np.testing.assert_allclose(found.score, wanted["scores"].numpy()[order], atol=2e-3)
            rows = np.column_stack([found.xyxy / limit, found.score, found.class_id])
            others = np.column_stack(
                [boxes / limit, wanted["scores"].numpy()[order], wanted["labels"].numpy()[order]]
            )
            nearest = np.abs(rows[:, None] - others[None]).max(axis=2).min(axis=1)
            assert np.quantile(nearest, share) < limit_off


@pytest.mark.parametrize("kind", KINDS)
def test_inner_tensors_of_a_good_export_show_no_difference(
    parents: dict[str, Parent],
    exported: dict[tuple[str, str], Artifact],
    cell_images: Path,
    kind: str,
) -> None:
    parent = parents[kind]
    seen = verify.answer(
        parent.manifest, parent.engine, verify.read_images(cell_images, 1), multi_label=False
    )
    children: list[Probe] = [OnnxProbe(parent.graph)]
    if kind == "detr":  # compiled anew for every look: one of them will do
        children.append(OpenVinoProbe(exported[kind, "openvino"].file("openvino"), "f32"))
    for child in children:
        found = first_difference.find(parent.probe(), child, seen.feeds[0], limit=1e-3)
        assert found.first is None
        assert found.compared > 30


def test_what_an_export_leaves_behind(
    exported: dict[tuple[str, str], Artifact], checkpoints: dict[str, Artifact]
) -> None:
    artifact, parent = exported["rt_detr_v2", "onnx"], checkpoints["rt_detr_v2"]
    manifest = artifact.manifest
    assert manifest.name == "rt-detr-v2-onnx-f32"
    assert manifest.formats == {"onnx": "model.onnx"}
    assert manifest.parent == parent.digest
    assert manifest.step.name == "export"
    assert manifest.step.config["dynamic_batch"] is True
    assert {"torch", "transformers", "onnx"} <= set(manifest.step.versions)
    assert manifest.metrics["output_error.logits+pred_boxes"] < 1e-3
    assert manifest.inputs[0].shape == (-1, 128, 160, 3)
    report = json.loads((artifact.path / "export.json").read_bytes())
    assert report["parent"]["engine"] == "torch (eager)"
    assert report["batch"][0]["within"] == 1.0
    assert report["verdict"]["outcome"] == "holds"


def test_an_exported_file_can_be_imported_by_itself(
    store: Store, exported: dict[tuple[str, str], Artifact]
) -> None:
    first = exported["detr", "onnx"]
    again = import_onnx(store, first.file("onnx"), name="again")
    assert again.manifest.labels == first.manifest.labels
    assert again.manifest.preprocessing == first.manifest.preprocessing
    assert [s.name for s in again.manifest.inputs] == ["image", "valid_hw"]
    assert again.file("onnx").read_bytes() == first.file("onnx").read_bytes()


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["detr", "rt_detr"])  # softmax; sigmoids, of which the best
def test_fused_postprocessing_gives_the_same_boxes(
    store: Store,
    export_traced: Export,
    exported: dict[tuple[str, str], Artifact],
    cell_images: Path,
    kind: str,
    to: str,
) -> None:
    asked = ExportOptions(to, dynamic_batch=True, fuse_nms=True)  # type: ignore[arg-type]
    fused = export_traced(store, kind, asked)
    assert fused.manifest.variant == "native"
    assert [s.name for s in fused.manifest.outputs] == ["labels", "boxes", "scores"]
    assert fused.manifest.inputs[-1].name == "orig_target_sizes"
    engine = "onnxruntime" if to == "onnx" else "openvino"
    answers = []
    for artifact in (fused, exported[kind, to]):
        with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
            detector.warm_up()
            answers.append(
                detector.detect((cell_images / "02.png").read_bytes(), EVERYTHING).detections
            )
    np.testing.assert_allclose(answers[0].score, answers[1].score, atol=1e-4)
    np.testing.assert_array_equal(answers[0].class_id, answers[1].class_id)
    np.testing.assert_allclose(answers[0].xyxy, answers[1].xyxy, atol=0.05)


def test_another_canvas(store: Store, checkpoints: dict[str, Artifact], cell_images: Path) -> None:
    flat = export(
        store, checkpoints["detr"], ExportOptions("onnx", imgsz=(96, 192)), images=cell_images
    ).manifest
    assert flat.name == "detr-onnx-f32-96x192"
    assert flat.inputs[0].shape == (1, 96, 192, 3)
    assert flat.preprocessing.edges_px == (96, 192)
    small = export(
        store, checkpoints["rt_detr"], ExportOptions("onnx", imgsz=(64, 96)), images=cell_images
    )
    assert small.manifest.preprocessing.size_hw == (64, 96)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)
@pytest.mark.parametrize("kind", READY)
def test_their_graphs_are_ready_for_tensorrt(
    parents: dict[str, Parent],
    exported: dict[tuple[str, str], Artifact],
    tmp_path: Path,
    kind: str,
) -> None:
    if kind == TRIED:
        report = json.loads((exported[kind, "onnx"].path / "export.json").read_bytes())
        assert report["tensorrt"]["problems"] == []
    model, manifest = to_float16(parents[kind].graph), parents[kind].manifest
    fuse(model, manifest)
    (tmp_path / "half-fused.onnx").write_bytes(model.SerializeToString())
    assert validate_for_tensorrt(tmp_path / "half-fused.onnx") == []


def test_half_precision_agrees(store: Store, export_traced: Export) -> None:
    made = export_traced(store, "rt_detr_v2", ExportOptions("onnx", "f16", dynamic_batch=True))
    assert made.manifest.metrics["boxes.matched"] == made.manifest.metrics["boxes.parent"] == 120
    assert made.manifest.metrics["boxes.iou_mean"] > 0.99
    assert made.manifest.metrics["boxes.shift_mean_abs"] < 0.001


def test_half_precision_holds_where_classes_nearly_tie(
    store: Store, checkpoints: dict[str, Artifact], cell_images: Path
) -> None:
    made = export(store, checkpoints["detr"], ExportOptions("onnx", "f16"), images=cell_images)
    report = read_report(made.path / "export.json")
    allowed = LIMITS["f16"]
    if report.parent_noise is not None:  # out of the usual tolerance, not more than the noise
        allowed = widened(allowed, report.parent_noise)
    limits = {row.clause.metric: row.clause.limit for row in report.verdict.rows}
    assert limits["boxes.iou_mean"] == allowed.iou
    assert (limits["boxes.lost"], limits["boxes.gained"]) == (allowed.lost, allowed.gained)
    assert report.verdict.outcome == "holds"


@pytest.mark.parametrize("kind", ["detr", "d_fine"])
def test_half_precision_keeps_normalisation_in_float32(
    parents: dict[str, Parent], kind: str
) -> None:
    import onnx

    model = to_float16(parents[kind].graph)
    known = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    kinds = {t.name: t.data_type for t in model.graph.initializer} | known
    half = onnx.TensorProto.FLOAT16
    norms = [n for n in model.graph.node if n.op_type in ("LayerNormalization", "Softmax")]
    assert {node.op_type for node in norms} == {"LayerNormalization", "Softmax"}
    assert all(kinds.get(name) != half for node in norms for name in node.input)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert all(kinds[node.input[1]] == half for node in convolutions)
    # What stays float32 is not rounded between one such node and the next.
    casts = {n.output[0]: n for n in model.graph.node if n.op_type == "Cast"}
    rounded = {name for name, node in casts.items() if node.attribute[0].i == half}
    wide = [n for n in casts.values() if n.attribute[0].i == onnx.TensorProto.FLOAT]
    own = {node.name for node in parents[kind].graph.graph.node}
    pairs = [casts[name] for node in wide for name in rounded & {*node.input}]
    assert not [node.name for node in pairs if node.name not in own]


def test_weights_that_lack_a_layer_are_not_filled_with_random_ones(
    transformers: Any, snapshots: dict[str, Path], tmp_path: Path, cell_images: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacking"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((snapshots["detr"] / name).read_bytes())
    tensors = load_file(snapshots["detr"] / "model.safetensors")
    gone = next(name for name in tensors if "encoder.layers.0" in name)
    save_file({n: t for n, t in tensors.items() if n != gone}, folder / "model.safetensors")
    store = Store(tmp_path / "store")
    artifact = import_transformers(store, folder, name="lacking", uri="test", licence="mit")
    with pytest.raises(InvalidArtifact, match=r"lacks \d+ weights?\b.*they would be random"):
        export(store, artifact, ExportOptions("onnx"), images=cell_images)
    assert store.names() == ["lacking"]


def test_a_graph_of_others_with_a_mask_becomes_one_that_takes_images(
    checkpoints: dict[str, Artifact],
    network: Callable[[str], Any],
    snapshots: dict[str, Path],
    tmp_path: Path,
    cell_images: Path,
) -> None:
    """As optimum exports DETR: pixel_values and a mask of its own size, config.json beside."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network("detr")

        def forward(self, pixel_values: Any, pixel_mask: Any) -> Any:
            answer = self.network(pixel_values=pixel_values, pixel_mask=pixel_mask)
            return answer.logits, answer.pred_boxes

    folder = tmp_path / "optimum"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((snapshots["detr"] / name).read_bytes())
    torch.onnx.export(
        Plain().eval(),
        (torch.zeros(1, 3, 160, 160), torch.ones(1, 160, 160, dtype=torch.int64)),
        folder / "model.onnx",
        input_names=["pixel_values", "pixel_mask"],
        output_names=["logits", "pred_boxes"],
        opset_version=17,
        dynamo=False,
    )
    store = Store(tmp_path / "store")
    artifact = import_onnx(store, folder / "model.onnx", name="optimum")
    assert [s.name for s in artifact.manifest.inputs] == ["image", "valid_hw"]
    parent = open_parent(checkpoints["detr"], ExportOptions("onnx"), threads=1)
    seen = verify.read_images(cell_images)
    engine = open_engine(artifact, "onnxruntime", EngineConfig())
    wanted = verify.answer(parent.manifest, parent.engine, seen, multi_label=False)
    found = verify.answer(artifact.manifest, engine, seen, multi_label=False)
    errors = output_errors(wanted.outputs, found.outputs, ordered=True, limit=1e-3)
    assert all(one.within == 1.0 for one in errors)
    assert artifact.manifest.preprocessing == parent.manifest.preprocessing
