"""OpenVINO: the device, precision and streams asked for, or an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.support.tiny_by_hand import BATCH, by_hand, run

from seatrial.artifact import Artifact
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable, InvalidArtifact

CORE = "seatrial.engines.openvino.openvino_core"


def test_openvino_got_the_streams_and_threads(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "openvino", EngineConfig(instances=2, threads=1))
    properties = engine.properties()
    assert properties["num_streams"] == "2"
    assert properties["inference_num_threads"] == "2"
    assert properties["enable_cpu_pinning"] == "False"
    assert properties["version"]


def test_openvino_has_no_cuda_and_says_what_it_sees(tiny_artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match=r"'cuda'; OpenVINO sees: .*CPU"):
        open_engine(tiny_artifact, "openvino", EngineConfig(device="cuda"))


def openvino_capabilities() -> list[str]:
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@pytest.mark.parametrize(("precision", "capability"), [("bf16", "BF16"), ("f16", "FP16")])
def test_openvino_computes_in_the_precision_asked_for_or_not_at_all(
    tiny_artifact: Artifact, precision: Any, capability: str
) -> None:
    config = EngineConfig(precision=precision)
    if capability not in openvino_capabilities():
        with pytest.raises(DeviceUnavailable, match=f"no {precision} arithmetic"):
            open_engine(tiny_artifact, "openvino", config)
        return
    engine = open_engine(tiny_artifact, "openvino", config)
    assert engine.precision == precision
    # It is seen in the numbers: 8 or 11 bits of mantissa are not 24.
    difference = np.abs(run(engine)[:, 4:] - by_hand(BATCH)[:, 4:]).max()
    assert 1e-6 < difference < 2e-2


def test_f32_is_f32_also_where_the_cpu_has_bf16(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "openvino", EngineConfig(precision="f32"))
    assert engine.precision == "f32"
    np.testing.assert_allclose(run(engine), by_hand(BATCH), atol=1e-5)


class Reports:
    """A compiled model that reports another value for one property."""

    def __init__(self, compiled: Any, key: str, value: Any) -> None:
        self._compiled, self._key, self._value = compiled, key, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def get_property(self, key: str) -> Any:
        return self._value if key == self._key else self._compiled.get_property(key)


@pytest.mark.parametrize(
    ("key", "value", "said", "hint"),
    [
        (
            "EXECUTION_DEVICES",
            ["GPU"],
            "the device cpu and runs on gpu",
            "another engine",
        ),
        (
            "INFERENCE_PRECISION_HINT",
            SimpleNamespace(to_string=lambda: "bf16"),
            "asked for f32 and runs bf16",
            "use --precision bf16",
        ),
    ],
)
def test_openvino_that_does_something_else_is_refused(
    tiny_artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: Any,
    said: str,
    hint: str,
) -> None:
    import openvino

    class Core:
        def __init__(self) -> None:
            self._core = made()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._core, name)

        def compile_model(self, *given: Any) -> Any:
            return Reports(self._core.compile_model(*given), key, value)

    made = openvino.Core
    monkeypatch.setattr(CORE, lambda purpose: Core())
    with pytest.raises(DeviceUnavailable, match=said) as refusal:
        open_engine(tiny_artifact, "openvino", EngineConfig())
    assert hint in refusal.value.hint


def test_a_cpu_without_bf16_is_told_before_the_graph_is_read(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:

    class Core:
        available_devices = ("CPU",)

        def get_property(self, device: str, key: str) -> list[str]:
            assert (device, key) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8"]

    monkeypatch.setattr(CORE, lambda purpose: Core())
    for precision in ("bf16", "f16"):
        with pytest.raises(DeviceUnavailable, match=f"no {precision} arithmetic.*FP32, INT8"):
            open_engine(tiny_artifact, "openvino", EngineConfig(precision=precision))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Exception from src/core.cpp:85:\nCheck 'a' failed at b.cpp:3:\n  no such operator \n\n",
         "no such operator"),
        ("the cause\nException from src/core.cpp:85:\n", "the cause"),
        ("Exception from src/core.cpp:85:\n", "Exception from src/core.cpp:85:"),
    ],
)  # fmt: skip
def test_of_an_error_of_openvino_the_cause_is_told(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, text: str, cause: str
) -> None:
    import openvino

    class Core(openvino.Core):  # type: ignore[misc]
        def read_model(self, *args: Any) -> Any:
            raise RuntimeError(text)

    monkeypatch.setattr(CORE, lambda purpose: Core())
    with pytest.raises(InvalidArtifact) as caught:
        open_engine(tiny_artifact, "openvino", EngineConfig())
    assert caught.value.message.endswith(f": {cause}")
