"""An environment of its own with Triton's server, its client, and what the models need.

The server's Python backend needs numpy 1, which nothing else of the tests' environment does.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fresh_environments import install, install_into
from seatrial.serve.triton.own_code import requirements

SERVER = "nvidia-pytriton==0.7.0"
MISSING = ("was not found in the package registry", "no wheels", "no version of nvidia-pytriton")


def triton_environment(folder: Path, engine: str) -> Path:
    """Make the environment, and give its Python; skips the test where the wheel is not to be had.

    Args:
        folder: New folder.
        engine: Engine that the models run.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"{SERVER} has no wheel for this machine")
    try:
        python = install(folder, SERVER, "tritonclient[http,grpc]>=2.60", "numpy<2")
    except AssertionError as error:
        if any(text in str(error) for text in MISSING):
            pytest.skip(f"{SERVER} cannot be installed: {str(error).splitlines()[-1]}")
        raise
    install_into(python, "--no-deps", *requirements(engine))
    return python


def said_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process says on stderr, up to the line with a text."""
    assert process.stderr is not None
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said
