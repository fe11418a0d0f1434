"""What thresholds and NMS cost at most, and whether they find what plain NMS finds.

python benchmarks/suppression.py [--rounds 5] [--images 53]

Plain NMS is the rule: of all candidates over the threshold the 30,000 most confident, each compared
by OpenCV with every kept box. Both read the same outputs by turns:

- YOLO11n's on labelled COCO pictures, at a service's thresholds and at those of an evaluation;
- the same with every score raised over 0.001 (a dense head), of which AP is compared;
- outputs that no network has: boxes side by side, boxes in one place, one class or 80, and as many
  boxes wanted as a request may ask for.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import measure
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.predict import EVALUATION, InProcess
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Deployment, Thresholds
from seatrial.detect.decode import decode_file
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS
from seatrial.detect.families.yolo import Yolo
from seatrial.detect.opening import open_detector
from seatrial.detect.postprocess import MAX_CANDIDATES, corners, finish, nms, select
from seatrial.detect.preprocess import fit

Output = NDArray[np.float32]  # (4 + classes, anchors)
Way = Callable[[Output, Thresholds], Detections]


def plain(output: Output, thresholds: Thresholds) -> Detections:
    """NMS as it is written down, without a shortcut."""
    scores = output[4:]
    if thresholds.multi_label:
        classes, anchors = np.nonzero(scores > thresholds.confidence)
    else:
        anchors = np.flatnonzero(scores.max(axis=0) > thresholds.confidence)
        classes = scores[:, anchors].argmax(axis=0)
    score = scores[classes, anchors]
    order = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    anchors, classes, score = anchors[order], classes[order], score[order]
    centre, half = output[:2, anchors], output[2:4, anchors] / 2
    corners = np.concatenate([centre - half, centre + half]).T.astype(np.float64)
    corners -= corners.min() if len(corners) else 0.0
    xywh: Any = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept = np.sort(
        np.asarray(
            cv2.dnn.NMSBoxesBatched(xywh, score, classes.astype(np.int32), -1.0, thresholds.iou),  # type: ignore[arg-type]
            np.intp,
        ).reshape(-1)
    )[: thresholds.max_detections]
    boxes = np.concatenate([centre - half, centre + half]).T[kept]
    return Detections(boxes, score[kept], classes[kept].astype(np.int64))


def ours(output: Output, thresholds: Thresholds) -> Detections:
    """The same by the functions that families use."""
    rows = output.T
    anchors, class_id, score = select(rows[:, 4:], thresholds)
    boxes = Detections(corners(rows[anchors, :4]), score, class_id)
    return nms(boxes, thresholds.iou, thresholds.max_detections)


def dense(output: Output) -> Output:
    """The output with every score over 0.001, in the same order."""
    raised = output.copy()
    raised[4:] = np.float32(0.0011) + np.float32(0.9989) * raised[4:]
    return raised


def install(way: Way) -> None:
    """Have YOLO's family find boxes by that way."""

    def detections(self: Yolo, outputs: Any, letterbox: Any, thresholds: Thresholds) -> Detections:
        found = way(outputs[self._output][0], thresholds)
        return finish(found, letterbox, thresholds.max_detections)

    Yolo.detections = detections  # type: ignore[method-assign]


def made_up() -> dict[str, Output]:
    """Outputs of a canvas of 1280 x 1280 in which NMS has most to compare."""
    chance = np.random.default_rng(0)
    anchors = 33_600
    row, column = np.divmod(np.arange(anchors), 184)
    beside = np.stack([column * 7.0 + 3, row * 7.0 + 3, *np.full((2, anchors), 6.0)])
    stacked = np.tile([[640.0], [640.0], [500.0], [500.0]], (1, anchors))
    # As many kept as are wanted but one, again and again; the rest is read to the end.
    short = beside.copy()
    short[:, :20_000] = beside[:, np.arange(20_000) % 299]
    falling = np.linspace(1.0, 0.002, anchors)[None]
    return {
        name: np.concatenate([boxes, scores]).astype(np.float32)
        for name, boxes, scores in (
            ("beside_1_class", beside, falling),
            ("stacked_1_class", stacked, falling),
            ("short_of_the_limit", short, falling),
            ("beside_80_classes", beside, chance.random((80, anchors))),
            ("stacked_80_classes", stacked, chance.random((80, anchors))),
        )
    }


def both(
    outputs: list[Output], thresholds: Thresholds, rounds: int
) -> dict[str, float | bool | int]:
    """Milliseconds an output of each way, by turns, and whether they agree to the bit."""
    ways: dict[str, Way] = {"plain": plain, "ours": ours}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    worst: dict[str, float] = dict.fromkeys(ways, 0.0)
    same = True
    for _ in range(rounds):
        took: dict[str, list[float]] = {name: [] for name in ways}
        for output in outputs:
            found = []
            for name, way in ways.items():
                begun = time.perf_counter()
                found.append(way(output, thresholds))
                took[name].append((time.perf_counter() - begun) * 1e3)
            same &= all(
                np.array_equal(getattr(found[0], part), getattr(found[1], part))
                for part in ("xyxy", "score", "class_id")
            )
        for name, times in took.items():
            spent[name].append(statistics.median(times))
            worst[name] = max(worst[name], *times)
    medians = {name: statistics.median(times) for name, times in spent.items()}
    return {
        **{f"{name}_ms": round(value, 3) for name, value in medians.items()},
        **{f"{name}_worst_ms": round(value, 3) for name, value in worst.items()},
        "ratio": round(medians["ours"] / medians["plain"], 3),
        "equal_to_the_bit": same,
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=53)
    options = parser.parse_args()
    measure.need_shared()
    labels = measure.SHARED / "data" / "coco-val" / "instances.json"
    whole = read_labelled(f"coco:{measure.IMAGES}", labels)
    images = whole.images[: options.images]
    truth = whole.truth.take(np.flatnonzero(whole.truth.image < len(images)))
    labelled = LabelledSet(whole.source, images, whole.categories, truth)
    figures: dict[str, Any] = {"images": len(images)}
    with open_detector(measure.open_artifact(), Deployment("model", precision="f32")) as detector:
        outputs = []
        for image in images:
            canvas, _ = fit(
                decode_file(image.path, max_pixels=MAX_PIXELS),
                detector.artifact.manifest.preprocessing,
            )
            found = detector.engine.narrow[0].infer(
                {detector.artifact.manifest.inputs[0].name: canvas}
            )
            outputs.append(np.array(next(iter(found.values()))[0]))
        figures["service"] = both(outputs, Thresholds(), options.rounds)
        figures["evaluation"] = both(outputs, EVALUATION, options.rounds)
        figures["dense"] = both([dense(one) for one in outputs], EVALUATION, 1)
        for name, way in {
            "ap_plain": plain,
            "ap": ours,
            "ap_dense_plain": lambda output, rules: plain(dense(output), rules),
            "ap_dense": lambda output, rules: ours(dense(output), rules),
        }.items():
            install(way)
            figures[name] = evaluate(InProcess(detector), labelled).report.scores.figures.ap
    for name, output in made_up().items():
        for limit in (300, 30_000):
            rules = Thresholds(confidence=0.001, max_detections=limit, multi_label=True)
            figures[f"{name}_{limit}"] = both([output], rules, 1)
    measure.save("suppression", figures, ("opencv-python-headless",))


if __name__ == "__main__":
    main()
