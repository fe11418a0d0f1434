"""Whether it pays to give an engine several images at once, and to copy what it gives.

    python benchmarks/batching.py MODEL [MODEL ...] [--engines openvino onnxruntime] [--rounds 12]

Each model is an artifact of an open batch size, by its name in the store or its path:

    seatrial export yolo11n.pt --to onnx --dynamic-batch --allow-pickle --images FOLDER

For each engine, one narrow lane of one thread runs batches of each size in turn, in each round. All
times are CPU time of this process, for each image: a neighbour on the machine makes them longer by
what it does to the caches, and no more. ``ratio`` is that of one image alone in the same round.

``copy_ms`` is what a copy of the outputs of one image takes, ``read_ms`` what reading them takes:
at the model's own thresholds, and at those of an evaluation (confidence 0.001). A lane that lends
its outputs is given back before they are read where a copy takes less than half of that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import measure
import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.decode import decode
from seatrial.detect.early_release import copied
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import fit
from seatrial.engines.base import EngineConfig, Lane
from seatrial.engines.registry import open_engine

SIZES = (1, 2, 4, 8)
PICTURES = 12
Feeds = list[dict[str, NDArray[Any]]]


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--engines", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    measure.need_shared()
    figures: dict[str, Any] = {}
    for model in options.models:
        artifact = measure.open_artifact(model)
        for engine in options.engines:
            name = f"{artifact.manifest.name}, {engine}"
            figures[name] = of_engine(artifact, engine, options.rounds)
            print(name, figures[name], flush=True)
            measure.save("batching", figures)  # a model that does not open costs no other


def of_engine(artifact: Artifact, engine_name: str, rounds: int) -> dict[str, Any]:
    """Figures of one model on one engine."""
    engine = open_engine(artifact, engine_name, EngineConfig(max_batch=max(SIZES)))
    (lane,) = engine.narrow
    feeds = given(artifact)
    batches = {size: stacked(feeds[:size]) for size in SIZES}
    equal = answers_equal(lane, feeds)
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        for size, batch in batches.items():
            times[size].append(cpu_ms(lane.infer, batch) / size)
    found: dict[str, Any] = {"bit_equal": equal}
    for size in SIZES:
        found[f"image_ms_{size}"] = statistics.median(times[size])
        if size > 1:
            pairs = zip(times[size], times[1], strict=True)
            found[f"ratio_{size}"] = measure.rounded([many / one for many, one in pairs])
    found |= reading(artifact, lane, rounds)
    engine.close()
    return found


def given(artifact: Artifact) -> Feeds:
    """What the graph is given for each of some pictures."""
    manifest, family = artifact.manifest, family_of(artifact.manifest)
    found: Feeds = []
    for picture in measure.encoded(PICTURES):
        canvas, letterbox = fit(decode(picture, max_pixels=10**8), manifest.preprocessing)
        found.append({manifest.inputs[0].name: canvas, **family.feeds(letterbox)})
    return found


def stacked(feeds: Feeds) -> dict[str, NDArray[Any]]:
    """One batch of them."""
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


def answers_equal(lane: Lane, feeds: Feeds) -> bool:
    """Whether the outputs of an image are to the bit those that it has alone, in any batch."""
    alone = [copied(lane.infer(one)) for one in feeds]
    for size in (2, 3, 5, max(SIZES)):
        together = copied(lane.infer(stacked(feeds[:size])))
        for index in range(size):
            for name, array in together.items():
                if not np.array_equal(array[index : index + 1], alone[index][name]):
                    return False
    return True


def reading(artifact: Artifact, lane: Lane, rounds: int) -> dict[str, Any]:
    """Times of copying and reading the outputs of one image."""
    manifest, family = artifact.manifest, family_of(artifact.manifest)
    low = Thresholds(0.001, manifest.iou, 300, True)
    kinds = {"": Thresholds(manifest.confidence, manifest.iou), "_low": low}
    taken: dict[str, list[float]] = {}
    for picture in measure.encoded(PICTURES):
        canvas, letterbox = fit(decode(picture, max_pixels=10**8), manifest.preprocessing)
        outputs = lane.infer({manifest.inputs[0].name: canvas, **family.feeds(letterbox)})
        for _ in range(rounds):
            taken.setdefault("copy_ms", []).append(cpu_ms(copied, outputs))
            for kind, options in kinds.items():
                read = cpu_ms(family.detections, outputs, letterbox, options)
                taken.setdefault(f"read_ms{kind}", []).append(read)
    return {"lends": lane.lends} | {name: statistics.median(v) for name, v in taken.items()}


def cpu_ms(work: Callable[..., object], *words: Any) -> float:
    """CPU time of a call, ms."""
    begun = time.process_time()
    work(*words)
    return 1e3 * (time.process_time() - begun)


if __name__ == "__main__":
    main()
