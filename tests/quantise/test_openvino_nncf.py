"""OpenVINO's quantised graphs: what runs in INT8, and which operators are fused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest

from quantised_graphs import LAYERS, WITHOUT_BIAS, openvino_precisions

pytest.importorskip("nncf", reason="NNCF is not installed")


def test_openvino_runs_the_convolutions_in_int8_and_the_head_in_float(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("openvino")
    ran = openvino_precisions(folder)
    assert {ran[f"{name}{WITHOUT_BIAS}"] for name in LAYERS} <= {"u8", "i8"}
    assert ran["dfl/Conv"] == "f32"
    model = openvino.Core().read_model(folder / "model.xml")
    assert model.input(0).get_element_type() == openvino.Type.u8
    assert list(model.input(0).shape) == [1, 64, 64, 3]


def test_openvino_has_one_operator_for_silu_and_no_rounding_inside(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("openvino")
    model = openvino.Core().read_model(folder / "model.xml")
    swishes = [n for n in model.get_ordered_ops() if n.get_type_name() == "Swish"]
    assert len(swishes) == 2
    for node in swishes:
        before = node.input_value(0).get_node().get_type_name()
        assert before in ("Add", "Convolution")  # the bias or what needs none, not a rounding


def test_the_telemetry_of_nncf_is_off() -> None:
    code = (
        "from seatrial.system.extras import require\n"
        "require('nncf', extra='compress', purpose='this test')\n"
        "from nncf.telemetry.wrapper import telemetry\n"
        "print(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MagicMock"]
