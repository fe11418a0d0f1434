"""Answers of the Open Inference Protocol have the forms that the description says."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from seatrial.serve.protocols import inference_forms as forms


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v2", forms.ServerMetadata),
        ("/v2/models/tiny", forms.ModelMetadata),
        ("/v2/models/tiny.graph", forms.ModelMetadata),
        ("/v2/models/tiny/versions/1/config", forms.ModelConfiguration),
        ("/v2/models/tiny.graph/config", forms.ModelConfiguration),
        ("/v2/models/tiny/stats", forms.StatisticsAnswer),
        ("/v2/models/stats", forms.StatisticsAnswer),
    ],
)
def test_what_is_told_of_models(running: Any, path: str, form: type) -> None:
    msgspec.convert(running.client.get(path).json(), form)


def test_the_index(running: Any) -> None:
    told = running.client.post("/v2/repository/index").json()
    assert len(msgspec.convert(told, list[forms.IndexEntry])) == 2


@pytest.mark.parametrize("binary", [False, True])
def test_an_answer(running: Any, photo: bytes, binary: bool) -> None:
    image = base64.b64encode(photo).decode()
    asked = forms.InferenceRequest(
        [forms.InputTensor("image", "BYTES", [1], None, [image])],
        "7",
        {"binary_data_output": binary, "confidence": 0.3},
    )
    answer = running.client.post("/v2/models/tiny/infer", content=msgspec.json.encode(asked))
    assert answer.status_code == 200
    length = int(answer.headers.get("Inference-Header-Content-Length", len(answer.content)))
    told = msgspec.json.decode(answer.content[:length], type=forms.InferenceAnswer)
    assert told.id == "7"
    assert all((one.data is None) == binary for one in told.outputs)
