"""One lane of the detector, the same in every server: what is compared is what is around it.

Runs in the environment of each server, on the sources of this Seatrial (``PYTHONPATH``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Thresholds
from seatrial.detect.answer import boxes
from seatrial.detect.opening import open_detector

MODEL, ENGINE, LANES, DEADLINE_S = "PEER_MODEL", "PEER_ENGINE", "PEER_LANES", "PEER_DEADLINE_S"


def lanes() -> int:
    """Number of processes that infer."""
    return int(os.environ[LANES])


def deadline_s() -> float:
    """Time in which a request has to be answered."""
    return float(os.environ[DEADLINE_S])


def open_detect() -> Callable[[bytes], dict[str, Any]]:
    """Open one lane of one thread; gives what answers an encoded image."""
    artifact = Artifact.open(Path(os.environ[MODEL]), verify=False)
    layout = CoreLayout(workers=1, instances=1, threads=1, wide=False)
    deployment = Deployment(os.environ[MODEL], engine=os.environ[ENGINE], layout=layout)
    detector = open_detector(artifact, deployment)

    def detect(image: bytes) -> dict[str, Any]:
        found = detector.detect(image, Thresholds())
        rows = boxes(found.detections, artifact.manifest.labels)
        return {"detections": msgspec.to_builtins(rows)}

    return detect
