"""What lies in a repository for the models that run in Python."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.engines.registry import ENGINES
from seatrial.serve.triton.own_code import MODULES, OF_ENGINES, requirements, write_code
from seatrial.system.extras import PACKAGES

# Imports the models with nothing of Seatrial but the zip file, and says what else was imported.
LOOK = """
import sys
sys.path[:0] = [sys.argv[1]]
import seatrial.serve.triton.python_model
own = {name.partition(".")[0] for name, module in sys.modules.items()
       if "site-packages" in (getattr(module, "__file__", None) or "")}
print(sorted(own), sys.modules["seatrial"].__file__.startswith(sys.argv[1]))
"""


def test_the_models_run_with_the_zip_file_and_the_listed_packages(tmp_path: Path) -> None:
    write_code(tmp_path / "code.zip")
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path / "code.zip")],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    found, of_zip = done.stdout.rsplit(" ", 1)
    assert of_zip.strip() == "True"
    imported = set(ast.literal_eval(found)) - {"sitecustomize"}
    assert {*MODULES, "numpy"} <= imported | {"_distutils_hack"}
    # Pillow uses defusedxml where it is there.
    assert {name for name in imported if not name.startswith("_")} <= {
        *MODULES, "numpy", "typing_extensions", "defusedxml"
    }  # fmt: skip


def test_the_same_code_gives_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        write_code(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_engine_has_its_packages() -> None:
    assert OF_ENGINES.keys() == ENGINES.keys()


def test_requirements_are_the_versions_here() -> None:
    found = requirements("null")
    version = importlib.metadata.version("opencv-python-headless")
    assert f"opencv-python-headless=={version}" in found
    packages = [one.partition("==")[0] for one in found]
    assert {PACKAGES.get(module, module).lower() for module in MODULES} <= {*packages}


def test_a_package_that_is_not_here_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    assert requirements("openvino")[-1] == "openvino"
