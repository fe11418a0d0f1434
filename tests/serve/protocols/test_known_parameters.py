"""Parameters by level: one table, which both transports and the reference have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from grpc_calls import images_request, set_parameter
from open_inference import elements
from seatrial.errors import InvalidInput
from seatrial.serve.protocols import inference_json, inference_protobuf
from seatrial.serve.protocols.inference import Call
from seatrial.serve.protocols.known_parameters import (
    OF_FORM,
    OF_INPUT,
    OF_OUTPUT,
    OF_TURN,
    THRESHOLDS,
    thresholds_of,
)
from seatrial.serve.protocols.served_models import ProtocolModel
from seatrial.serve.statistics import DETECTOR, GRAPH

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "open-inference.md"
LEVELS = {
    "the request": {*THRESHOLDS, *OF_TURN, *OF_FORM},
    "an input": {*OF_INPUT},
    "an output": {*OF_OUTPUT},
}
ALL = sorted({*THRESHOLDS, *OF_TURN, *OF_FORM, *OF_INPUT, *OF_OUTPUT, "shared_memory_region"})
# A value of the right type, for the request below.
VALUES = {
    "binary_data_size": len(elements(b"x")), "content_type": "base64", "binary_data": True,
    "binary_data_output": True, "triton_enable_empty_final_response": True,
}  # fmt: skip


def test_the_reference_has_each_at_its_level() -> None:
    levels = "|".join(LEVELS)
    rows = re.findall(rf"^\| ({levels}) \| (.+?) \|", REFERENCE.read_text(), re.MULTILINE)
    found: dict[str, set[str]] = {level: set() for level in LEVELS}
    for level, names in rows:
        found[level] |= {*re.findall(r"`(\w+)`", names)}
    assert found == LEVELS


def model(kind: str) -> ProtocolModel:
    return ProtocolModel("tiny", kind, "", (), ())


def over_http(level: str, name: str, value: Any) -> Call:
    data = elements(b"x")
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": len(data)}
    request: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "boxes"}]}
    at = {"the request": request, "an input": tensor, "an output": request["outputs"][0]}[level]
    at.setdefault("parameters", {})[name] = value
    text = json.dumps(request).encode()
    return inference_json.read_call(text + data, len(text), "tiny")[0]


def over_grpc(level: str, name: str, value: Any) -> Call:
    request = images_request(b"x")
    output = request.outputs.add(name="boxes")
    at = {"the request": request, "an input": request.inputs[0], "an output": output}[level]
    set_parameter(at.parameters[name], value)
    return inference_protobuf.read_call(request)[0]


@pytest.mark.parametrize("transport", [over_http, over_grpc])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ALL)
def test_both_transports_take_each_at_its_level(transport: Any, level: str, name: str) -> None:
    value = VALUES.get(name, 1)

    def read() -> None:
        thresholds_of(transport(level, name, value).parameters, model(DETECTOR))

    if name in LEVELS[level]:
        read()
    else:
        with pytest.raises(InvalidInput, match=f"{name}' is not (served|known)"):
            read()


def test_thresholds_are_the_detectors() -> None:
    given = {"timeout": 1, "confidence": 0.5, "priority": 2}
    assert thresholds_of(given, model(DETECTOR)) == {"confidence": 0.5}
    assert thresholds_of({"timeout": 1}, model(GRAPH)) == {}
    with pytest.raises(InvalidInput, match="'confidence' is not known to 'tiny'") as refused:
        thresholds_of(given, model(GRAPH))
    assert refused.value.hint.endswith("thresholds belong to the detector")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("confidance", "did you mean 'confidence'?"),
        ("time_out", "did you mean 'timeout'?"),
        ("binary_data", "did you mean 'binary_data_output'?"),
        ("headers", "known: confidence, iou, "),
        ("codec_type_of_content", "known: confidence, iou, "),
    ],
)
def test_the_nearest_name_is_near(name: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{name}' is not known") as refused:
        thresholds_of({name: 1}, model(DETECTOR))
    assert refused.value.hint.startswith(hint)
