"""The Python of an environment with Triton's server, for all tests of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seatrial.system.locks import locked


@pytest.fixture(scope="session")
def triton_python(shared: Path) -> Path:
    """That Python; the environment is made once for all processes of a run, and never changed.

    The models run ONNX Runtime in it.
    """
    from triton_environment import triton_environment  # reads the environment when imported

    folder, done = shared / "triton", shared / "triton.done"
    with locked(shared / "triton.lock", on_wait=lambda: None):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            done.write_text(str(triton_environment(folder, "onnxruntime")))
    return Path(done.read_text())
