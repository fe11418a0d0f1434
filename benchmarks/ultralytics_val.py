"""The mAP that Ultralytics' val prints against ours, on the same weights, one difference at a time.

python benchmarks/ultralytics_val.py

Each line changes one thing of the line above it, from COCO's rules on our boxes to the figure that
``yolo val`` prints by default. `docs/guides/evaluate.md` says what the lines mean.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch

from seatrial.accuracy.evaluate import coco_results, evaluate, score
from seatrial.accuracy.matching import IGNORED, TRUE_POSITIVE, Matches, Predictions
from seatrial.accuracy.predict import InProcess
from seatrial.datasets.coco import encode
from seatrial.datasets.labels import LabelledSet, match_labels
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Deployment
from seatrial.detect.opening import open_detector
from seatrial.system.extras import import_ultralytics_package

sys.path.append(str(measure.ROOT / "tests" / "support"))
import torchvision_operators

CHECKPOINT = measure.SHARED / "models" / "yolo11n.pt"
LABELS = measure.SHARED / "data" / "coco-val" / "instances.json"


def main() -> None:
    """Measure and save."""
    measure.need_shared()
    dataset = read_labelled(f"coco:{measure.IMAGES}", LABELS)
    artifact = measure.open_artifact()
    with open_detector(artifact, Deployment("model", precision="f32")) as detector:
        ours = evaluate(InProcess(detector), dataset).report.scores.figures.ap
    plain = replace(dataset, truth=dataset.truth.take(np.flatnonzero(~dataset.truth.crowd)))
    category = match_labels(artifact.manifest.labels, dataset)
    with tempfile.TemporaryDirectory(prefix="seatrial-val-") as scratch:
        library = _ultralytics(Path(scratch))
        plan = _yolo_folder(plain, category, artifact.manifest.labels, Path(scratch))
        square, boxes = _val(library, plan, dataset, category, rect=False)
        default, _ = _val(library, plan, dataset, category, rect=True)
    matches, without_crowds = score(plain, boxes)
    lines: list[tuple[str, float | None]] = [
        ("seatrial evaluate: COCO's rules", ours),
        ("the boxes of Ultralytics, square pictures", score(dataset, boxes)[1].figures.ap),
        ("crowds are not labelled", without_crowds.figures.ap),
        ("300 boxes of an image and class instead of 100", _pycocotools(plain, boxes, 300)),
        ("precision between recalls: a line, not a step", _their_average(library, matches)),
        ("pairs by overlap, not by confidence", square),
        ("rectangular batches: the default, what is printed", default),
    ]
    measure.save("ultralytics_val", _table(lines), ("ultralytics", "torch", "pycocotools"))


def _table(lines: Sequence[tuple[str, float | None]]) -> dict[str, Any]:
    """Each line, and what it changes; AP is None where there are no labels."""
    values = [math.nan if value is None else value for _, value in lines]
    return {
        name: {"ap": round(value, 5), "difference": round(value - earlier, 5)}
        for (name, _), value, earlier in zip(lines, values, [values[0], *values], strict=False)
    }


def _ultralytics(scratch: Path) -> Any:
    """The library, told to ask no host for anything."""
    os.environ |= {
        "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(scratch),
    }  # fmt: skip
    torchvision_operators.provide()
    torch.set_num_threads(os.cpu_count() or 1)
    return import_ultralytics_package(purpose="this benchmark")


def _yolo_folder(dataset: LabelledSet, category: Any, labels: Sequence[str], scratch: Path) -> Path:
    """The set as Ultralytics reads it: crowds left out, centres and sizes as shares."""
    shutil.copytree(measure.IMAGES, scratch / "images")  # labels are looked for beside the files
    (scratch / "labels").mkdir()
    class_of = {int(c): number for number, c in enumerate(category) if c >= 0}
    for number, image in enumerate(dataset.images):
        rows = np.flatnonzero(dataset.truth.image == number)
        size = np.array([image.width, image.height] * 2)
        xywh = dataset.truth.xywh[rows].copy()
        xywh[:, :2] += xywh[:, 2:] / 2
        text = "".join(
            f"{class_of[c]} {' '.join(f'{v:.6f}' for v in box)}\n"
            for c, box in zip(dataset.truth.category[rows].tolist(), xywh / size, strict=True)
        )
        (scratch / "labels" / f"{image.path.stem}.txt").write_text(text)
    plan = scratch / "data.yaml"
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(labels))
    plan.write_text(f"path: {scratch}\ntrain: images\nval: images\nnames:\n{names}")
    return plan


def _val(
    library: Any, plan: Path, dataset: LabelledSet, category: Any, *, rect: bool
) -> tuple[float, Predictions]:
    """The figure that is printed, and the boxes it was made from."""
    model = library.YOLO(CHECKPOINT)
    kept: list[dict[str, Any]] = []

    def keep(validator: Any) -> None:
        numbers = {number: place for place, number in enumerate(validator.class_map)}
        kept.extend({**row, "class": numbers[row["category_id"]]} for row in validator.jdict)

    model.add_callback("on_val_end", keep)
    with contextlib.redirect_stdout(sys.stderr):
        metrics = model.val(
            data=str(plan), imgsz=640, batch=16, conf=0.001, iou=0.7, max_det=300, rect=rect,
            save_json=True, plots=False, workers=0, verbose=False, project=str(plan.parent),
        )  # fmt: skip
    place = {image.id: number for number, image in enumerate(dataset.images)}
    kept.sort(key=lambda row: (place[int(row["image_id"])], -row["score"]))
    boxes = Predictions(
        np.array([place[int(row["image_id"])] for row in kept]),
        category[[row["class"] for row in kept]],
        np.array([row["bbox"] for row in kept], np.float64),
        np.array([row["score"] for row in kept], np.float64),
    )
    return float(metrics.box.map), boxes.take(np.flatnonzero(boxes.category >= 0))


def _pycocotools(dataset: LabelledSet, boxes: Predictions, limit: int) -> float:
    """AP with another number of boxes of an image and class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = json.loads(encode(dataset))
    with contextlib.redirect_stdout(sys.stderr):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(list(coco_results(dataset, boxes))), "bbox")
        run.params.maxDets = [1, 10, limit]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean())


def _their_average(library: Any, matches: Matches) -> float:
    """Ultralytics' average precision of what COCO's matching found."""
    status = matches.status[0]
    assert not (status == IGNORED).any()
    order = np.argsort(-matches.score, kind="stable")
    averages = library.utils.metrics.ap_per_class(
        (status == TRUE_POSITIVE).T[order],
        matches.score[order],
        matches.category[order],
        matches.truth_category,
    )[5]
    return float(averages.mean())


if __name__ == "__main__":
    main()
