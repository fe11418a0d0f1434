"""One core of OpenVINO in a process: signals arrive whoever opened and closed a model."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seatrial.artifact import Artifact
from seatrial.system.openvino_core import openvino_core

# As a service does: one model is opened as it starts, and is closed by a thread after a swap.
SWAPPED = """
import gc, os, signal, sys, threading, time
from pathlib import Path
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.detect.opening import open_detector

def opened():
    layout = CoreLayout(1, 1, 1, wide=False)
    return open_detector(artifact, Deployment("tiny", engine="openvino", layout=layout))

def swap():
    models.append(opened())
    models.pop(0).close()
    gc.collect()

artifact = Artifact.open(Path(sys.argv[1]))
signal.signal(signal.SIGTERM, lambda *given: print("handled", flush=True))
models = [opened()]
for _ in range(2):
    thread = threading.Thread(target=swap)
    thread.start()
    thread.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
models.pop().close()
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.01)
"""


def test_a_signal_arrives_after_another_thread_has_closed_a_model(tiny_artifact: Artifact) -> None:
    """On a processor with AMX a closed core took the stack of signals with it."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SWAPPED, str(tiny_artifact.path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "handled\n" * 3), done.stderr


def test_there_is_one() -> None:
    assert openvino_core("a test") is openvino_core("another")
