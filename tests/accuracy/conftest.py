"""The tiny detector, opened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.detect.detector import Detector
from seatrial.detect.opening import open_detector


@pytest.fixture
def detector(tiny_artifact: Artifact) -> Iterator[Detector]:
    deployment = Deployment(str(tiny_artifact.path), layout=CoreLayout(1, 1, 1, wide=False))
    with open_detector(tiny_artifact, deployment) as opened:
        yield opened
