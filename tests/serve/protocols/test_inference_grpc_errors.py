"""What is wrong with a call over gRPC: status, words and limits, against a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from grpc_calls import (
    Service,
    failure,
    field,
    graph_request,
    images_request,
    stream,
)
from seatrial.client.inference_messages import ModelInferRequest
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")


def test_errors_have_the_status_of_their_kind(
    service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    nothing = ModelInferRequest(model_name="tiny")
    twice = images_request(files[0])
    twice.raw_input_contents.append(b"")
    both = images_request(files[0])
    both.inputs[0].contents.bytes_contents.append(files[0])
    shared = images_request(files[0])
    shared.inputs[0].parameters["shared_memory_region"].string_param = "x"
    for request, status, code, text in (
        (images_request(files[0], model_version="2"), "NOT_FOUND", 404, "has no version '2'"),
        (nothing, "INVALID_ARGUMENT", 400, "input 'image' of model 'tiny' is missing"),
        (images_request(b"hello"), "INVALID_ARGUMENT", 415, "known formats: JPEG"),
        (images_request(files[0][:200]), "INVALID_ARGUMENT", 422, ""),
        (twice, "INVALID_ARGUMENT", 400, "1 inputs have 2 raw_input_contents"),
        (both, "INVALID_ARGUMENT", 400, "has contents, and there are raw_input_contents"),
        (shared, "INVALID_ARGUMENT", 400, "'shared_memory_region' is not served"),
        (images_request(files[0], parameters={"confidance": 0.5}), "INVALID_ARGUMENT", 400,
         "did you mean 'confidence'?"),
        (images_request(*files[:1] * 33), "INVALID_ARGUMENT", 400, "33 images are more"),
        (b"\xff" * 64, "INVALID_ARGUMENT", 400, "no ModelInferRequest"),
        (field(1, b"\xff\xff"), "INVALID_ARGUMENT", 400, "no ModelInferRequest"),
    ):  # fmt: skip
        before = outcomes(code)
        found, details, metadata = failure(service.ModelInfer, request)
        assert (found, text in details) == (status, True), details
        assert metadata["x-error-code"].startswith(("Invalid", "Not", "Unsupported"))
        assert outcomes(code) == before + 1
    assert failure(service.ModelMetadata, name="none")[0] == "NOT_FOUND"
    assert failure(service.ModelInfer, graph_request(np.zeros((1, 2, 2, 3), np.uint8)))[0] == (
        "INVALID_ARGUMENT"
    )
    unknown = service.channel.unary_unary("/inference.GRPCInferenceService/TraceSetting")
    assert failure(unknown, b"", timeout=20)[0] == "UNIMPLEMENTED"


def longest_body(serving: Running) -> int:
    return int(serving.service.dispatcher.limits.body_bytes)


def test_messages_over_the_limit_are_refused(
    service: Service, serving: Running, outcomes: Callable[[int], float], until: Callable[..., Any]
) -> None:
    before = outcomes(413)
    over = images_request(b"\xff" * (longest_body(serving) + 2**17))
    status, details, _ = failure(service.ModelInfer, over)
    assert (status, "larger than max" in details) == ("RESOURCE_EXHAUSTED", True), details
    until(lambda: outcomes(413) == before + 1)
    question = field(15, b"\xff" * 2**17)
    assert failure(service.ServerLive, question)[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("stream_of", [False, True])
def test_the_limit_of_an_image_is_that_of_http(
    service: Service, serving: Running, raw: bool, stream_of: bool
) -> None:
    """The message around it may be longer."""
    limit = longest_body(serving)
    for size, refused in ((limit, False), (limit + 1, True)):
        message = images_request(b"\xff" * size, raw=raw, id="n" * 100)
        if stream_of:
            (answer,) = stream(service, [message])
            details = answer.error_message
            code = answer.infer_response.parameters["x-error-code"].string_param
            assert code == ("InputTooLarge" if refused else "UnsupportedImage")
        else:
            status, details, _ = failure(service.ModelInfer, message)
            assert status == ("RESOURCE_EXHAUSTED" if refused else "INVALID_ARGUMENT")
        words = f"have {size} bytes, and at most {limit} are taken; send a smaller file"
        assert (words in details) == refused
        told = serving.client.post("/detect", content=b"\xff" * size)
        assert told.status_code == (413 if refused else 415)


def test_packed_messages_are_refused_before_they_are_unpacked(
    service: Service, files: list[bytes]
) -> None:
    status, details, _ = failure(
        service.ModelInfer, images_request(files[0]), compression=grpc.Compression.Gzip
    )
    assert (status, "gzip" in details) == ("UNIMPLEMENTED", True)


def test_a_failure_of_ours_says_nothing_of_itself(
    serving: Running, service: Service, files: list[bytes], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, outcomes: Callable[[int], float],
) -> None:  # fmt: skip
    def fail(*words: object) -> None:
        raise RuntimeError("secret")

    before = outcomes(500)
    monkeypatch.setattr("seatrial.serve.protocols.grpc_request.read_call", fail)
    status, details, _ = failure(service.ModelInfer, images_request(files[0]))
    assert (status, details) == ("INTERNAL", "the server failed; see the server's log")
    assert outcomes(500) == before + 1
    assert "secret" in caplog.text
