"""Names and descriptions of models of the Open Inference Protocol."""

from __future__ import annotations

import pytest

from seatrial.client.inference_wire import ModelName, is_inference_path
from seatrial.load.inference import (
    InferenceModel,
    ModelInput,
    named_model,
)
from seatrial.load.target import DETECT

IMAGE = ModelInput("image", "BYTES", (-1,))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (DETECT, None),
        ("yolo11n", ModelName("yolo11n")),
        ("/yolo11n", ModelName("yolo11n")),
        ("/v2/models/yolo11n/infer", ModelName("yolo11n")),
        ("/v2/models/a%20b/versions/2/infer", ModelName("a b", "2")),
    ],
)
def test_a_path_names_a_model(path: str, model: ModelName | None) -> None:
    assert named_model(path) == model
    assert is_inference_path(path) == path.startswith("/v2/")


@pytest.mark.parametrize(
    ("inputs", "fits"),
    [
        ((IMAGE,), True),
        ((ModelInput("INPUT", "BYTES", (-1, 1)),), True),
        ((ModelInput("images", "UINT8", (1, -1, -1, 3)),), False),
        ((ModelInput("texts", "BYTES", (7,)),), False),
        ((IMAGE, ModelInput("threshold", "FP32", (1,))), False),
        ((), False),
    ],
)
def test_an_image_goes_to_the_only_input_of_one_element(
    inputs: tuple[ModelInput, ...], fits: bool
) -> None:
    found = InferenceModel("m", inputs=inputs).image_input()
    assert found == (inputs[0] if fits else None)
