"""Errors as answers: each protocol's form, and nothing that only the log should hold."""

from __future__ import annotations

import json

import pytest

from seatrial.errors import EngineFailed, InvalidArtifact, InvalidInput, NotWritable, Overloaded
from seatrial.serve.protocols.error_answers import error_answer

SECRET = "/srv/models/a.onnx"


@pytest.mark.parametrize("path", ["/detect", "/v2/models/m/infer"])
@pytest.mark.parametrize(
    "error",
    [
        EngineFailed("the x engine failed", hint="h", cause=f"RuntimeError: {SECRET}"),
        NotWritable(f"{SECRET} cannot be written", hint=f"look at {SECRET}"),
        InvalidArtifact(SECRET),
    ],
)
def test_faults_of_the_service_name_no_file(path: str, error: Exception) -> None:
    assert isinstance(error, EngineFailed | NotWritable | InvalidArtifact)
    answer = error_answer(path, error)
    assert answer.status_code == 500
    assert SECRET not in bytes(answer.body).decode()
    assert SECRET in error.message  # the log has it


def test_the_reason_of_a_refusal() -> None:
    told = error_answer("/detect", Overloaded("m", hint="h", reason="deadline"))
    error = json.loads(bytes(told.body))["error"]
    assert error == {"code": "Overloaded", "message": "m", "hint": "h", "reason": "deadline"}
    plain = json.loads(bytes(error_answer("/detect", InvalidInput("m")).body))["error"]
    assert plain == {"code": "InvalidInput", "message": "m", "hint": ""}
    assert json.loads(bytes(error_answer("/v2", Overloaded("m", hint="h")).body)) == {
        "error": "m; h"
    }


def test_only_paths_of_the_protocol_have_its_form() -> None:
    for path, ours in (("/v2", False), ("/v2/x", False), ("/v2x", True), ("/", True)):
        body = json.loads(bytes(error_answer(path, InvalidInput("m")).body))
        assert isinstance(body["error"], dict) == ours
