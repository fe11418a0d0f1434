"""Start-up of one server process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.errors import DeviceUnavailable, InvalidConfig
from seatrial.serve.startup import check, in_words, open_service


@pytest.fixture
def affinity() -> Iterator[set[int]]:
    """The cores of this process, put back afterwards."""
    allowed = os.sched_getaffinity(0)
    yield set(allowed)
    os.sched_setaffinity(0, allowed)


def test_the_layout_in_words() -> None:
    both = Deployment("m", layout=CoreLayout(1, 2, 3))
    assert in_words(both, cores=8) == (
        "1 process x 2 lanes x 3 threads, one wide lane of 8 threads"
    )
    narrow = Deployment("m", layout=CoreLayout(2, 2, 3, wide=False))
    assert in_words(narrow, cores=8) == "2 processes x 2 lanes x 3 threads"


def test_check_tells_what_would_run(tiny_artifact: Artifact) -> None:
    assert check(tiny_artifact, Deployment("tiny")) == "openvino, cpu, f32"
    with pytest.raises(DeviceUnavailable):
        check(tiny_artifact, Deployment("tiny", device="cuda"))
    with pytest.raises(InvalidConfig, match="unknown engine"):
        check(tiny_artifact, Deployment("tiny", engine="onyxruntime"))


OWN_CORES = """
import os, sys
from pathlib import Path
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.serve.startup import open_service

worker, workers = int(sys.argv[2]), int(sys.argv[3])
deployment = Deployment("tiny", engine="null", layout=CoreLayout(workers=workers))
before = sorted(os.sched_getaffinity(0))
service = open_service(Artifact.open(Path(sys.argv[1])), deployment, worker)
print(before, "|", sorted(os.sched_getaffinity(0)), "|", service.description["layout"])
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_keep_to_cores_of_their_own(
    tiny_artifact: Artifact, workers: int, affinity: set[int]
) -> None:
    if len(affinity) < workers:
        pytest.skip(
            f"{workers} processes have no cores of their own where {len(affinity)} can be used"
        )
    cores: list[list[int]] = []
    allowed: list[int] = []
    for worker in range(workers):
        done = subprocess.run(
            [sys.executable, "-c", OWN_CORES, tiny_artifact.path, str(worker), str(workers)],
            capture_output=True,
            text=True,
            check=True,
        )
        before, own, described = (eval(part) for part in done.stdout.split("|"))
        cores.append(own)
        allowed = before
        assert described["workers"] == workers
        assert described["cores"] == len(before)  # of the service, not of the process
    if workers == 1:
        assert cores == [allowed]
    else:
        assert not set(cores[0]) & set(cores[1])
        assert set(cores[0]) | set(cores[1]) <= set(allowed)
        assert len(cores[0]) == len(cores[1]) == len(allowed) // 2


def test_more_processes_than_cores_share_them(tiny_artifact: Artifact, affinity: set[int]) -> None:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(workers=len(affinity) + 1))
    service = open_service(tiny_artifact, deployment, worker=len(affinity))
    assert os.sched_getaffinity(0) == affinity
    service.dispatcher.close()
