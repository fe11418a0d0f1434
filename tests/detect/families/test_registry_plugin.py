"""A family from outside the package, by its entry point: the one of docs/guides/add-a-family.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "add-a-family.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def install(folder: Path, *, name: str, target: str, code: str) -> None:
    """What pip lays down for the guide's package: its module, and where its entry point is told."""
    package = folder / "seatrial_mmdeploy-0.1.0.dist-info"
    package.mkdir(parents=True)
    (folder / "seatrial_mmdeploy.py").write_text(code)
    (package / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: seatrial-mmdeploy\nVersion: 0.1.0\n"
    )
    (package / "entry_points.txt").write_text(f"[seatrial.families]\n{name} = {target}\n")


def detector(path: Path) -> None:
    """64 x 64; two boxes that are always there, the second as sure as the picture is red."""
    boxes = np.array([[[8, 8, 24, 24, 0.9], [32, 16, 48, 56, 0.0]]], np.float32)
    constants = {
        "boxes": boxes,
        "sure": np.array([[[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]], np.float32),
        "labels_of": np.array([[1, 0]], np.int64),
        "channel": np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1),
        "axes": np.array([1, 2, 3], np.int64),
        "shape": np.array([1, 1, 1], np.int64),
        "share": np.array(58.395 / (255 - 123.675) / 64 / 64, np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["input", "channel"], ["red"]),
        helper.make_node("ReduceSum", ["red", "axes"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "share"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["weight"]),
        helper.make_node("Mul", ["sure", "weight"], ["extra"]),
        helper.make_node("Add", ["boxes", "extra"], ["dets"]),
        helper.make_node("Identity", ["labels_of"], ["labels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "end2end",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 2, 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"classes": json.dumps(["cat", "dog"])})
    onnx.save(model, path)


def environment_with(folder: Path) -> dict[str, str]:
    """The environment with a folder of packages before those that are there."""
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), before]))}


def seatrial(
    tmp_path: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = environment_with(path) if path is not None else {**os.environ}
    environment["SEATRIAL_HOME"] = str(tmp_path / "home")
    return subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(
        tmp_path / "site",
        name="mmdeploy",
        target="seatrial_mmdeploy:MmDeploy",
        code=block("python"),
    )
    return tmp_path / "site"


def test_the_guides_entry_point_is_the_one_that_is_looked_up() -> None:
    from seatrial.detect.families.registry import ENTRY_POINTS

    assert f'[project.entry-points."{ENTRY_POINTS}"]' in block("toml")
    assert 'mmdeploy = "seatrial_mmdeploy:MmDeploy"' in block("toml")


def test_the_guides_family_is_imported_and_detects(tmp_path: Path, site: Path) -> None:
    detector(tmp_path / "detector.onnx")
    done = seatrial(tmp_path, "models", "import", str(tmp_path / "detector.onnx"), path=site)
    assert done.returncode == 0, done.stderr
    assert "detector: mmdeploy, 64x64, 2 classes" in done.stderr

    Image.new("RGB", (128, 128), (255, 0, 0)).save(tmp_path / "red.png")
    arguments = ("detect", str(tmp_path / "red.png"), "--model", "detector", "--json")
    done = seatrial(tmp_path, *arguments, path=site)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["detections"]
    # Twice the canvas; the red channel normalised is as great as the graph's constant expects.
    assert [(one["label"], one["box"]) for one in found] == [
        ("cat", [64.0, 32.0, 96.0, 112.0]),
        ("dog", [16.0, 16.0, 48.0, 48.0]),
    ]
    assert [one["confidence"] for one in found] == pytest.approx([1.0, 0.9], abs=1e-4)


def test_without_the_package_its_artifacts_say_what_is_missing(tmp_path: Path, site: Path) -> None:
    detector(tmp_path / "detector.onnx")
    seatrial(tmp_path, "models", "import", str(tmp_path / "detector.onnx"), path=site)
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    done = seatrial(tmp_path, "detect", str(tmp_path / "black.png"), "--model", "detector")
    assert done.returncode == 3
    assert "unknown family 'mmdeploy'" in done.stderr
    assert "packages of their own" in done.stderr


def test_a_family_whose_package_is_broken_is_named_and_harms_no_other(tmp_path: Path) -> None:
    install(tmp_path / "site", name="odd", target="seatrial_mmdeploy:Odd", code="import nowhere\n")
    code = (
        "from seatrial.errors import InvalidArtifact\n"
        "from seatrial.detect.families.registry import family_class\n"
        "print(family_class('yolo').__name__)\n"
        "try:\n    family_class('odd')\n"
        "except InvalidArtifact as error:\n    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_with(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Yolo\nthe family 'odd' of an installed package does not import")
    assert "No module named 'nowhere'" in done.stdout


def test_a_package_cannot_take_over_a_family_of_the_table(tmp_path: Path) -> None:
    install(tmp_path / "site", name="yolo", target="seatrial_mmdeploy:MmDeploy", code="MmDeploy=1")
    code = "from seatrial.detect.families.registry import family_class; print(family_class('yolo'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_with(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seatrial.detect.families.yolo.Yolo" in done.stdout
