"""What doctor says of a machine: each part tried, and absent told from broken."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial import doctor
from seatrial.artifact import Store
from seatrial.cli.doctor import doctor as print_found
from seatrial.doctor import Part, examine
from seatrial.engines import cuda
from seatrial.engines.registry import ENGINES
from seatrial.models.import_onnx import import_onnx
from seatrial.system.extras import install_command

pytestmark = pytest.mark.slow


def part(name: str, home: Path) -> Part:
    return next(one for one in examine(home).parts if one.name == name)


def test_what_a_machine_has(tmp_path: Path, model_file: Callable[..., Path]) -> None:
    import_onnx(Store(tmp_path / "artifacts"), model_file())
    found = examine(tmp_path)
    assert (found.store, found.artifacts) == (str(tmp_path / "artifacts"), 1)
    assert found.cpu.cores >= 1
    assert found.memory_total_gib > 0.5
    assert found.python.startswith(sys.version.split()[0])
    states = {one.name: one.state for one in found.parts}
    assert states["engine null"] == states["engine onnxruntime"] == "works"
    # An engine that compiles, or goes through another runtime's provider, is that runtime's part.
    within = {"torch-compile": "torch", "onnxruntime-tensorrt": "onnxruntime"}
    assert {f"engine {within.get(name, name)}" for name in ENGINES} <= set(states)
    for one in found.parts:
        assert one.detail
        assert bool(one.remedy) == (one.state not in ("works", "installed"))


def test_what_works_was_tried_and_not_only_found(tmp_path: Path) -> None:
    assert part("engine onnxruntime", tmp_path).detail == "CPUExecutionProvider"
    openvino = part("engine openvino", tmp_path)
    assert (openvino.state, "devices CPU" in openvino.detail) == ("works", True)
    assert openvino.version.startswith("20")


def test_a_package_that_is_absent_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "openvino" else find_spec(n)
    )
    found = part("engine openvino", tmp_path)
    assert (found.state, found.remedy) == ("missing", install_command("openvino"))
    assert "openvino is not installed" in found.detail


@pytest.mark.parametrize(
    ("name", "absent", "package", "extra"),
    [
        ("training", "lightning", "lightning", "train"),
        ("compress", "nncf", "nncf", "compress"),
        ("model hubs", "modelscope_hub", "modelscope-hub", "hub"),
        ("demo", "streamlit", "streamlit", "demo"),
        ("video", "scipy", "scipy", "video"),
        ("sample digits", "sklearn", "scikit-learn", "data"),
    ],
)
def test_an_extra_names_the_package_that_it_lacks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    absent: str,
    package: str,
    extra: str,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == absent else find_spec(n)
    )
    found = part(name, tmp_path)
    assert (found.state, found.remedy) == ("missing", install_command(extra))
    assert found.detail.startswith("lacks ")
    assert package in found.detail.partition(";")[0].removeprefix("lacks ").split(", ")


def test_extras_are_made_of_what_the_project_file_says() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    for extra, modules in doctor.LOOKED_UP.values():
        listed = set(extras[extra])
        if "seatrial[transformers]" in listed:
            listed |= set(extras["transformers"])
        names = {re.split(r"[<>=\[]", line)[0] for line in listed} - {"seatrial"}
        assert {doctor.PACKAGES.get(module, module) for module in modules} == names


def test_two_builds_of_opencv_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = part("image decoding", tmp_path)
    assert (found.state, found.remedy) == ("works", "")
    info = tmp_path / "opencv_python-4.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = part("image decoding", tmp_path)
    assert "opencv-python 4.9: builds of one module" in found.detail
    assert found.remedy.startswith("pip uninstall -y opencv-python, then pip install")


def test_a_package_that_does_not_import_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "httptools").mkdir()
    (tmp_path / "httptools" / "__init__.py").write_text("raise OSError('libc is too old')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "httptools"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    found = part("benchmark", tmp_path)
    assert found.state == "broken"
    assert "libc is too old" in found.detail
    assert "--force-reinstall" in found.remedy


def test_a_runtime_that_fails_when_asked_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise RuntimeError("no devices\nand a long trace")

    monkeypatch.setattr(doctor, "_openvino", fail)
    found = part("engine openvino", tmp_path)
    assert (found.state, found.detail) == ("broken", "no devices")


def test_a_gpu_that_is_not_there_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rtx_as_tensorrt: None
) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libcuda.so.not-here")
    found = part("engine tensorrt", tmp_path)
    assert found.state == "missing"
    assert "there is no NVIDIA GPU here" in found.detail


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of that name, a shell script, first in the path."""

    def write(script: str) -> None:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    return write


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'NVIDIA L4, 23034 MiB, 570.1'", "NVIDIA L4, 23034 MiB, 570.1"),
        ("echo one; echo two", "one; two"),
        ("echo 'No devices were found'; exit 6", "none seen (No devices were found)"),
        ("echo 'driver mismatch' >&2; exit 18", "none seen (driver mismatch)"),
        ("exit 9", "none seen (nvidia-smi ended with 9)"),
    ],
    ids=["one", "two", "none", "broken", "silent"],
)
def test_what_the_driver_says_of_gpus(
    tmp_path: Path, nvidia_smi: Callable[[str], None], script: str, said: str
) -> None:
    nvidia_smi(script)
    assert examine(tmp_path).gpu == said


def test_a_machine_without_the_drivers_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda n: None if n == "nvidia-smi" else which(n))
    assert examine(tmp_path).gpu == "none seen (no nvidia-smi)"


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", "doctor", "--json"],
        env={**os.environ, "SEATRIAL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home").exists()  # a look leaves nothing behind
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["artifacts"] == 0
    assert {"name", "state", "version", "detail", "remedy"} == set(found["parts"][0])
    # The table of the same: another look takes seconds.
    monkeypatch.setattr(doctor, "examine", lambda home: msgspec.convert(found, doctor.Examination))
    print_found()
    table = capsys.readouterr().out
    for one in found["parts"]:  # in one line, to be copied
        assert not one["remedy"] or f"  {one['name']}: {one['remedy']}\n" in table
    assert all(one["name"] in table for one in found["parts"])
    assert "NVIDIA GPU" in table
