"""How long it takes to score the detections of 5,000 pictures, inference left out.

python benchmarks/evaluation_speed.py [--rounds 5] [--peer faster_coco_eval --peer pycocotools]

YOLO11n's real boxes on COCO pictures, at confidence 0.001, repeated until there are 5,000 pictures;
confidences and corners are moved a little, so that no two copies are equal. faster-coco-eval scores
the same boxes in turn with ours, and pycocotools once: it takes minutes. CPU time is told beside
the wall's, which other people's work on the machine stretches.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import measure
import numpy as np

from seatrial.accuracy.evaluate import coco_results, evaluate, score
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.predict import InProcess
from seatrial.datasets.coco import encode
from seatrial.datasets.labels import LabelledImage, LabelledSet, Truth
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Deployment
from seatrial.detect.opening import open_detector

IMAGES = 5000
PEERS = {"faster_coco_eval": "COCOeval_faster", "pycocotools": "COCOeval"}


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", choices=PEERS)
    options = parser.parse_args()
    measure.need_shared()
    labels = measure.SHARED / "data" / "coco-val" / "instances.json"
    small = read_labelled(f"coco:{measure.IMAGES}", labels)
    with open_detector(measure.open_artifact(), Deployment("model", precision="f32")) as detector:
        found = evaluate(InProcess(detector), small).predictions
    dataset, boxes = _repeat(small, found)
    ways: dict[str, Callable[[], float]] = {
        "seatrial": lambda: score(dataset, boxes)[1].figures.ap or 0.0,
        **{name: _peer(dataset, boxes, name, PEERS[name]) for name in options.peer or PEERS},
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    spent_cpu: dict[str, list[float]] = {name: [] for name in ways}
    ap: dict[str, float] = {}
    for number in range(options.rounds):
        for name, way in ways.items():
            if name == "pycocotools" and number > 0:
                continue
            begun, begun_cpu = time.perf_counter(), time.process_time()
            ap[name] = way()
            spent[name].append(time.perf_counter() - begun)
            spent_cpu[name].append(time.process_time() - begun_cpu)
    figures: dict[str, Any] = {
        name: {
            "median_s": statistics.median(times),
            "worst_s": max(times),
            "median_cpu_s": statistics.median(spent_cpu[name]),
            "ap": ap[name],
        }
        for name, times in spent.items()
    }
    sizes = {"images": IMAGES, "objects": len(dataset.truth), "detections": len(boxes)}
    measure.save("evaluation_speed", sizes | figures, ("faster-coco-eval", "pycocotools"))


def _repeat(small: LabelledSet, found: Predictions) -> tuple[LabelledSet, Predictions]:
    """The set and its detections, again and again up to `IMAGES` pictures."""
    chance = np.random.default_rng(0)
    count = len(small.images)
    copies = -(-IMAGES // count)
    step = np.arange(copies) * count
    images = tuple(
        LabelledImage(number + 1, str(number), one.path, one.width, one.height)
        for number, one in enumerate((small.images * copies)[:IMAGES])
    )
    truth = small.truth
    objects = Truth(
        (truth.image + step[:, None]).reshape(-1),
        np.tile(truth.category, copies),
        np.tile(truth.xywh, (copies, 1)),
        np.tile(truth.area, copies),
        np.tile(truth.crowd, copies),
        np.arange(len(truth) * copies),
    )
    xywh = np.tile(found.xywh, (copies, 1))
    confidence = np.tile(found.score, copies)
    boxes = Predictions(
        (found.image + step[:, None]).reshape(-1),
        np.tile(found.category, copies),
        np.maximum(xywh + chance.normal(0, 0.5, xywh.shape), 0.01).round(2),
        np.clip(confidence + chance.normal(0, 1e-3, len(confidence)), 1e-6, 1.0),
    )
    kept = objects.take(np.flatnonzero(objects.image < IMAGES))
    repeated = LabelledSet(small.source, images, small.categories, kept)
    return repeated, boxes.take(np.flatnonzero(boxes.image < IMAGES))


def _peer(dataset: LabelledSet, boxes: Predictions, package: str, name: str) -> Callable[[], float]:
    """The same by another package; reading labels and detections is left out for it too."""
    inner = (".coco", ".cocoeval") if package == "pycocotools" else ("", "")
    coco, runner = (importlib.import_module(package + part) for part in inner)
    with contextlib.redirect_stdout(sys.stderr):
        truth = coco.COCO()
        truth.dataset = json.loads(encode(dataset))
        truth.createIndex()
        rows = truth.loadRes(list(coco_results(dataset, boxes)))

    def run() -> float:
        with contextlib.redirect_stdout(sys.stderr):
            job = getattr(runner, name)(truth, rows, "bbox")
            job.evaluate()
            job.accumulate()
            job.summarize()
        return float(job.stats[0])

    return run


if __name__ == "__main__":
    main()
