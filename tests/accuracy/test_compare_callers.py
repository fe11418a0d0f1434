"""The same two models give the same answer to everybody who compares them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import judge_loss
from seatrial.artifact import Artifact, Store
from seatrial.cli.evaluate import evaluate as evaluate_command
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.demo.compare import compare as compare_views
from seatrial.demo.media import open_media
from seatrial.demo.models import Model, Models, open_artifact
from seatrial.demo.workbench import Choice, Workbench
from seatrial.deployment import CoreLayout, Deployment
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import Diverged
from seatrial.export import formats
from seatrial.export.options import ExportOptions
from seatrial.export.report import ExportReport, read_report
from seatrial.export.run import export
from seatrial.gate import Verdict
from seatrial.manifest import Manifest
from seatrial.models.import_onnx import import_onnx
from seatrial.progress import silent
from seatrial.quantise import measure
from seatrial.quantise.judge import Judge
from seatrial.quantise.measure import Graph
from seatrial.quantise.workspace import Workspace
from seatrial.train import result

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue")
COPIES = 4  # of each scene: few images decide nothing


SHARED = ("ap_drop", "boxes.lost", "boxes.gained")


@dataclass(frozen=True)
class Pair:
    """A parent and a child on three scenes.

    Attributes:
        factors: What the child makes of the parent's confidences, class by class.
        scenes: (row, column) -> colour and confidence in the parent.
        matched: Boxes that both see in the scenes; ``lost`` and ``gained`` are those of one side.
        fails: The clauses that fail, by every gate that has them.
        unlabelled: Colour that the labels leave out.
    """

    factors: tuple[float, ...]
    scenes: list[dict[tuple[int, int], tuple[str, float]]]
    matched: int
    lost: int
    gained: int
    fails: frozenset[str]
    unlabelled: str = ""

    @property
    def counts(self) -> tuple[int, int, int]:
        return COPIES * self.matched, COPIES * self.lost, COPIES * self.gained

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: "fails" if name in self.fails else "holds" for name in SHARED}


PAIRS = {
    "everything": Pair(
        factors=(0.5, 0.001, 3.0),
        scenes=[
            # 0.26 -> 0.13: matched, though a service shows it no more.
            {(1, 1): ("red", 0.26), (1, 5): ("red", 0.9)},
            # Green things are seen no more: lost.
            {(2, 2): ("green", 0.3), (2, 6): ("green", 0.8), (5, 5): ("red", 0.6)},
            # 0.1 -> 0.3: gained.
            {(4, 4): ("blue", 0.1), (6, 1): ("blue", 0.3)},
        ],
        matched=4,
        lost=2,
        gained=1,
        fails=frozenset(SHARED),
    ),
    # What the child sees beside the parent's boxes is in no label: AP holds.
    "gained": Pair(
        factors=(1.0, 1.0, 3.0),
        scenes=[
            {(1, 1): ("red", 0.9), (1, 5): ("blue", 0.1), (5, 1): ("blue", 0.1)},
            {(2, 2): ("green", 0.8), (2, 6): ("blue", 0.1), (5, 5): ("blue", 0.1)},
            {(4, 4): ("red", 0.6), (6, 1): ("blue", 0.1)},
        ],
        matched=3,
        lost=0,
        gained=5,
        fails=frozenset({"boxes.gained"}),
        unlabelled="blue",
    ),
    "nothing": Pair(
        factors=(1.0, 1.0, 1.0),
        scenes=[{(1, 1): ("red", 0.9)}, {(2, 2): ("green", 0.8)}, {(4, 4): ("blue", 0.6)}],
        matched=3,
        lost=0,
        gained=0,
        fails=frozenset(),
    ),
}


@pytest.fixture(scope="module", params=PAIRS.values(), ids=PAIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.param
    return found


def shared(verdict: Verdict) -> dict[str, str]:
    """Outcomes of the clauses that gates on a child have in common."""
    found = {row.clause.metric: row.outcome for row in verdict.rows}
    return {name: found[name] for name in SHARED if name in found}


def scaled(model: Any, by: tuple[float, ...]) -> Any:
    """The graph with the scores of each class by its factor."""
    changed = type(model)()
    changed.CopyFrom(model)
    tensor = next(t for t in changed.graph.initializer if t.name == "weights")
    values = numpy_helper.to_array(tensor)
    factors = np.array(by, values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    tensor.CopyFrom(numpy_helper.from_array(values * factors, tensor.name))
    return changed


@pytest.fixture(scope="module")
def made(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made of a pair: its store, graphs and scenes, which no test changes."""
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def parent(made: Path, tiny_model: Callable[..., Any]) -> Artifact:
    onnx.save(tiny_model(), made / "parent.onnx")
    return import_onnx(Store(made / "store"), made / "parent.onnx", name="parent")


@pytest.fixture(scope="module")
def child(parent: Artifact, pair: Pair, made: Path) -> Artifact:
    changed = scaled(onnx.load(made / "parent.onnx"), pair.factors)
    onnx.save(changed, made / "child.onnx")
    return import_onnx(Store(made / "store"), made / "child.onnx", name="child")


@pytest.fixture(scope="module")
def folder(
    made: Path,
    pair: Pair,
    picture: Callable[..., Any],
    box_of: Callable[..., list[float]],
) -> Path:
    """The scenes with their labels."""
    scenes = made / "scenes"
    scenes.mkdir()
    images, rows = [], []
    for number, scene in enumerate(pair.scenes * COPIES):
        full = picture({place: colour for place, (colour, _) in scene.items()})
        pixels = np.asarray(full).astype(np.float64)
        for (row, column), (colour, saturation) in scene.items():
            cell = np.s_[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            pixels[cell] = 114 + saturation * (pixels[cell] - 114)
            if colour == pair.unlabelled:
                continue
            left, top, right, bottom = box_of(row, column)
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": COLOURS.index(colour),
                    "bbox": [left, top, right - left, bottom - top],
                }
            )
        Image.fromarray(pixels.round().astype(np.uint8)).save(scenes / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
    labels = {
        "images": images,
        "annotations": rows,
        "categories": [{"id": index, "name": name} for index, name in enumerate(COLOURS)],
    }
    (scenes / "instances.json").write_text(json.dumps(labels))
    return scenes


@pytest.fixture(scope="module")
def labelled(folder: Path) -> LabelledSet:
    return read_labelled(f"coco:{folder}")


@pytest.fixture(scope="module")
def reference(parent: Artifact, child: Artifact, folder: Path) -> dict[str, Any]:
    """The answer of ``evaluate --parent``, which the others are held to."""
    dataset = f"coco:{folder}"
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as printed:
        evaluate_command(str(child.path), dataset=dataset, parent=str(parent.path), json=True)
        printed.seek(0)
        answer = json.load(printed)
    return {**answer["parent"], "verdict": msgspec.convert(answer["parent_verdict"], Verdict)}


def test_evaluate(pair: Pair, reference: dict[str, Any]) -> None:
    assert tuple(reference[name] for name in ("matched", "lost", "gained")) == pair.counts
    assert reference["floor"] == 0.25
    assert (reference["ap"]["difference"] < -0.3) == (pair.lost > 0)
    share = 2 * pair.matched / (2 * pair.matched + pair.lost + pair.gained)
    assert reference["agreement"]["share"] == share
    assert shared(reference["verdict"]) == pair.outcomes
    assert reference["verdict"].outcome == ("fails" if pair.fails else "holds")


def test_export(
    store: Store,
    parent: Artifact,
    folder: Path,
    pair: Pair,
    reference: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = formats._onnx

    def wrong(
        staged: Path, origin: Any, graph: Any, manifest: Manifest, options: ExportOptions
    ) -> Any:
        return write(staged, origin, scaled(graph, pair.factors), manifest, options)

    monkeypatch.setitem(formats.WRITERS, "onnx", wrong)
    given: Any = {"images": folder, "annotations": folder / "instances.json", "name": "made"}
    if pair.fails:
        with pytest.raises(Diverged) as caught:
            export(store, parent, ExportOptions("onnx"), **given)
        report = caught.value.report
        assert isinstance(report, ExportReport)
    else:
        made = export(store, parent, ExportOptions("onnx"), **given)
        report = read_report(made.path / "export.json")
    boxes, ap = report.boxes, report.accuracy
    assert (boxes.matched, boxes.lost, boxes.gained) == pair.counts
    assert shared(report.verdict) == pair.outcomes
    assert boxes.mean_shift == pytest.approx(reference["mean_shift"], abs=2e-5)
    assert boxes.mean_abs_shift == pytest.approx(reference["mean_abs_shift"], abs=2e-5)
    assert boxes.iou_mean == pytest.approx(reference["iou_mean"], abs=1e-4)
    assert ap is not None
    assert ap.difference == pytest.approx(reference["ap"]["difference"])
    assert (ap.low, ap.high) == pytest.approx((reference["ap"]["low"], reference["ap"]["high"]))


@pytest.mark.parametrize("with_labels", [True, False])
def test_int8(
    parent: Artifact,
    child: Artifact,
    labelled: LabelledSet,
    pair: Pair,
    reference: dict[str, Any],
    tmp_path: Path,
    with_labels: bool,
) -> None:
    if with_labels:
        judge = Judge.by_labels(labelled, COLOURS, LossLimits())
    else:
        files = tuple(image.path for image in labelled.images)
        judge = Judge.by_agreement(files, COLOURS, LossLimits(), key="")
    (tmp_path / "work").mkdir()
    work = Workspace(tmp_path / "work")
    after, before = (
        judge.boxes(
            measure.predictions(
                Graph(one.manifest.name, one.file("onnx"), one.manifest, "onnxruntime"),
                judge,
                work,
                silent,
            )
        )
        for one in (child, parent)
    )
    loss = judge.loss(after, before)
    assert (loss.matched, loss.lost, loss.gained) == pair.counts
    verdict = judge_loss(loss, LossLimits())
    wanted = pair.outcomes
    if not with_labels:
        del wanted["ap_drop"]  # agreement decides in its place, and counts the boxes of one side
        assert verdict.rows[0].outcome == ("fails" if pair.fails else "undecided")
    assert shared(verdict) == wanted
    assert loss.mean_shift == pytest.approx(reference["mean_shift"], abs=2e-5)
    rise = reference["ap"]["difference"] if with_labels else reference["agreement"]["share"] - 1
    assert loss.drop == pytest.approx(-rise)


def test_finetune(
    parent: Artifact,
    child: Artifact,
    labelled: LabelledSet,
    pair: Pair,
    reference: dict[str, Any],
) -> None:
    measured = [
        result._measure(one, open_engine(one, "onnxruntime", EngineConfig()), labelled)
        for one in (child, parent)
    ]
    found = result.compare_with_base(*measured, labelled)
    assert (found.matched, found.lost, found.gained) == pair.counts
    assert found.mean_shift == pytest.approx(reference["mean_shift"], abs=2e-5)
    assert found.ap is not None
    assert found.ap.difference == pytest.approx(reference["ap"]["difference"])
    assert result.gain_verdict(found.ap).outcome == pair.outcomes["ap_drop"]


def test_contract(
    child: Artifact,
    folder: Path,
    pair: Pair,
    reference: dict[str, Any],
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """A contract that asks for what the parent reaches, less the drop that all gates allow."""
    least = reference["ap"]["a"] - LossLimits().drop
    contract = tmp_path / "contract.toml"
    contract.write_text(f"[accuracy]\nap = {least}\n")
    ended = None
    try:
        dataset = f"coco:{folder}"
        evaluate_command(str(child.path), dataset=dataset, contract=contract, json=True)
    except SystemExit as left:
        ended = left.code
    verdict = json.loads(capsysbinary.readouterr().out)["verdict"]
    assert verdict["outcome"] == pair.outcomes["ap_drop"]
    assert ended == (8 if verdict["outcome"] == "fails" else None)


def test_demo(
    parent: Artifact, child: Artifact, folder: Path, pair: Pair, reference: dict[str, Any]
) -> None:
    layout = CoreLayout(1, 1, 1, wide=False)

    def opened(artifact: Artifact) -> Model:
        deployment = Deployment(str(artifact.path), layout=layout)
        return open_artifact(artifact.manifest.name, artifact, deployment)

    with Models(opened(parent), {"child": lambda: opened(child)}) as models:
        bench, choice = Workbench(models), Choice(confidence=0.25)
        found = []
        for file in sorted(folder.glob("*.png")):
            media = open_media(file.name, file.read_bytes())
            views = [bench.view(media, choice, model) for model in (None, models.rival("child"))]
            found.append(compare_views(*views))
    sums = [sum(getattr(one, name) for one in found) for name in ("matched", "lost", "gained")]
    assert tuple(sums) == pair.counts
    shift = sum((one.mean_shift or 0) * one.matched for one in found) / sums[0]
    assert shift == pytest.approx(reference["mean_shift"], abs=2e-5)
