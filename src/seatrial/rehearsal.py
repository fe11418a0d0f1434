"""Whether an artifact may take the place of a served one: tried in a process of its own.

A graph that ends its process, or takes all memory, ends this one and not the service. Both
artifacts answer the same images; labels and a contract decide where the deployment names them.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.bootstrap import intervals
from seatrial.accuracy.compare import FLOOR, PARTNER, BoxSet, Comparison, compare
from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.predict import InProcess
from seatrial.artifact import Artifact
from seatrial.contract import Contract
from seatrial.datasets.read import read_labelled
from seatrial.deployment import AGREEMENT, Deployment, Reload, Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detector
from seatrial.detect.opening import open_detector
from seatrial.errors import InvalidConfig, NotSwapped
from seatrial.gate import WORDS, Verdict
from seatrial.report.numbers import counted
from seatrial.system.images import image_files
from seatrial.system.memory import give_back_freed_memory, resident_bytes
from seatrial.trial.verdict import Accuracy, judge_contract

DRAWN = 4  # images of ours, where the deployment names none
DRAWN_HW = (480, 640)
MOST_IMAGES = 64
SEEN = Thresholds(confidence=FLOOR * PARTNER)
NICE = 19


class Rehearsal(msgspec.Struct, frozen=True):
    """Result of a rehearsal that nothing was wrong in.

    Attributes:
        path: Folder of the artifact.
        digest: Digest of it.
        name: Its name.
        memory_bytes: Memory that it takes, with the buffers of its first images.
        images: Number of images that both answered.
        comparison: Its boxes against those of the served artifact.
        verdict: Verdict on the contract's accuracy; None where no labels are named.
    """

    path: str
    digest: str
    name: str
    memory_bytes: int
    images: int
    comparison: Comparison
    verdict: Verdict | None = None


def give_way() -> None:
    """Let the service go before this process: in time, and when memory is short."""
    os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def rehearse(served: Artifact, artifact: Artifact, deployment: Deployment) -> Rehearsal:
    """Try an artifact against the one that is served.

    Args:
        served: The artifact that is served.
        artifact: The one that is to take its place.
        deployment: Engine, layout, and `seatrial.deployment.Reload`.

    Raises:
        NotSwapped: It may not take its place; the message says why.
        SeatrialError: It does not open, or does not run.
    """
    rules = deployment.reload
    _check_kind(served, artifact, deployment)
    images = _images(rules.images)
    before = resident_bytes()
    with open_detector(artifact, deployment) as detector:
        mine = _boxes(detector, images)
        memory_bytes = max(0, resident_bytes() - before)
        verdict = _verdict(detector, deployment)
    gc.collect()
    give_back_freed_memory()
    with open_detector(served, deployment) as detector:
        theirs = _boxes(detector, images)
    comparison = compare(mine, theirs, floor=FLOOR, samples=200)
    _check_agreement(comparison, served, artifact, rules)
    if verdict is not None and verdict.outcome != "holds":
        rows = [row for row in verdict.rows if row.outcome == verdict.outcome]
        found = "; ".join(f"{row.clause.label} {row.clause.wanted}: {row.text}" for row in rows)
        raise NotSwapped(
            f"{verdict.name} {WORDS[verdict.outcome]} for {artifact.manifest.name}: {found}",
            hint="seatrial evaluate shows the figures; with more labelled images they are surer",
        )
    name = artifact.manifest.name
    return Rehearsal(
        str(artifact.path.absolute()), artifact.digest, name, memory_bytes, len(images),
        comparison, verdict,
    )  # fmt: skip


def _check_agreement(
    comparison: Comparison, served: Artifact, artifact: Artifact, rules: Reload
) -> None:
    both = f"{artifact.manifest.name} and {served.manifest.name}"
    images = counted(comparison.images, "image")
    if comparison.agreement is None:
        if not rules.agreement:  # the caller is told that no box was compared
            return
        raise NotSwapped(
            f"whether {both} agree cannot be measured: neither sees anything on any of the "
            f"{images}",
            hint="name a folder of images of what they detect: reload.images of the deployment",
        )
    wanted = AGREEMENT if rules.agreement is None else rules.agreement
    if comparison.agreement.share < wanted:
        raise NotSwapped(
            f"{both} agree on {comparison.agreement.share:.0%} of their boxes on {images}, and at "
            f"least {wanted:.0%} are wanted",
            hint="if that is as it should be, lower reload.agreement of the deployment",
        )


def _check_kind(served: Artifact, artifact: Artifact, deployment: Deployment) -> None:
    old, new = served.manifest, artifact.manifest
    if new.family != old.family and deployment.reload.same_family:
        raise NotSwapped(
            f"{new.name} is of the family {new.family}, and {old.name} of {old.family}",
            hint="set reload.same_family = false in the deployment if that is meant",
        )
    if new.labels != old.labels and deployment.reload.same_labels:
        odd = sorted(set(new.labels) ^ set(old.labels))
        which = f": {', '.join(odd[:5])}" if odd else ", in another order"
        raise NotSwapped(
            f"{new.name} and {old.name} do not name the same classes{which}",
            hint="set reload.same_labels = false in the deployment if clients know the new names",
        )


def _images(folder: str | None) -> list[bytes | NDArray[np.uint8]]:
    if folder is None:
        return [_drawn(number) for number in range(DRAWN)]
    files = image_files(Path(folder))[:MOST_IMAGES]
    if not files:
        raise InvalidConfig(f"there is no image in {folder}", hint="see reload.images")
    return [file.read_bytes() for file in files]


def _drawn(number: int) -> NDArray[np.uint8]:
    """An image of coloured rectangles over noise, (H, W, 3); the same for each number."""
    chance = np.random.default_rng(number)
    image = chance.integers(0, 60, (*DRAWN_HW, 3), np.uint8)
    for _ in range(12):
        top, left = chance.integers(0, DRAWN_HW[0] - 40), chance.integers(0, DRAWN_HW[1] - 40)
        height, width = chance.integers(20, 200, 2)
        image[top : top + height, left : left + width] = chance.integers(0, 256, 3, np.uint8)
    return image


def _boxes(detector: Detector, images: Sequence[bytes | NDArray[np.uint8]]) -> BoxSet:
    found: list[Detections] = [detector.detect(image, SEEN).detections for image in images]
    categories = len(detector.artifact.manifest.labels)
    predictions = Predictions.of(found, np.arange(categories, dtype=np.int64))
    return BoxSet(predictions, len(images), categories)


def _verdict(detector: Detector, deployment: Deployment) -> Verdict | None:
    rules = deployment.reload
    if rules.dataset is None or rules.contract is None:
        return None
    contract = Contract.read(Path(rules.contract), judged=["accuracy"])
    scored = evaluate(InProcess(detector), read_labelled(rules.dataset, split=rules.split))
    accuracy = Accuracy(scored.report.scores.figures, intervals(scored.matches))
    return judge_contract(contract, accuracy=accuracy)
