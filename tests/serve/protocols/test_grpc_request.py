"""One message from its model to its answer; streams and calls have tests of their own."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest

from grpc_calls import images_request, tensors
from open_inference import detected, elements, rows
from seatrial.client.inference_messages import INFER, ModelInferRequest, ModelInferResponse
from seatrial.errors import InputTooLarge, InvalidInput, NotServed
from seatrial.serve.asked import Asked
from seatrial.serve.outcome import Counted
from seatrial.serve.protocols.grpc_request import check_length, infer_request, open_request
from seatrial.serve.protocols.inference_protobuf import Listed, write_answer
from seatrial.serve.protocols.tensors import Base64, Binary, Given
from seatrial.serve.statistics import DETECTOR, GRAPH
from seatrial.serve.variants import CANARY, LIVE
from served_application import Running

SCOPE = {"client": ("test",), "method": "POST", "path": INFER}


def outcome(running: Running) -> Counted:
    return Counted(running.service.metrics, SCOPE, INFER, DETECTOR)


def test_the_outcome_is_of_the_model_that_the_message_names(
    running: Running, files: list[bytes]
) -> None:
    found = outcome(running)
    request = open_request(running.service, found, images_request(files[0], id="seven"), 10)
    assert (request.model.name, request.form.id, request.body_bytes) == ("tiny", "seven", 10)
    assert found.model == DETECTOR
    open_request(running.service, found, ModelInferRequest(model_name="tiny.graph"), 10)
    assert found.model == GRAPH


def test_what_is_of_no_model_counts_for_none(running: Running) -> None:
    found = outcome(running)
    with pytest.raises(NotServed, match="no model 'none'"):
        open_request(running.service, found, ModelInferRequest(model_name="none"), 10)
    assert found.model is None


def test_what_contradicts_itself_counts_for_its_model(running: Running, files: list[bytes]) -> None:
    found, message = outcome(running), images_request(files[0])
    message.raw_input_contents.append(b"")
    with pytest.raises(InvalidInput, match="1 inputs have 2 raw_input_contents"):
        open_request(running.service, found, message, 10)
    assert found.model == DETECTOR


def listed(**contents: list[object]) -> Listed:
    message = ModelInferRequest()
    tensor = message.inputs.add()
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    return Listed(tensor.contents)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (Given("x", "UINT8", (9,), Binary(memoryview(b"a" * 9))), 9),
        (Given("x", "BYTES", (2, 1), Binary(memoryview(elements(b"ab", b"cde")))), 5),
        (Given("x", "BYTES", (2,), listed(bytes_contents=[b"ab", b"cde"])), 5),
        (Given("x", "BYTES", (1,), Base64(Binary(memoryview(elements(b"QUI="))))), 4),
        (Given("x", "BYTES", (1,), Base64(listed(bytes_contents=[b"QUI="]))), 4),
        (Given("x", "BYTES", (10**9,), Binary(memoryview(elements(b"ab")))), 0),  # refused later
        (Given("x", "BYTES", (2**60,) * 9, Binary(memoryview(b""))), 0),
    ],
)
def test_the_length_of_what_a_message_holds(given: Given, size: int) -> None:
    check_length([given, given], 2 * size)
    if size:
        with pytest.raises(InputTooLarge, match=f"have {2 * size} bytes, and at most {size} are"):
            check_length([given, given], size)


def test_numbers_in_lists_have_the_length_of_their_field() -> None:
    given = Given("x", "UINT8", (100,), listed(uint_contents=[7] * 100))
    check_length([given], 110)
    with pytest.raises(InputTooLarge):
        check_length([given], 99)


def test_a_tensor_goes_to_the_live_model_whatever_answers_beside_it(running: Running) -> None:
    """It fits one graph: that of a canary may take others."""
    serving, live = running.app.state.serving, running.service
    canary = msgspec.structs.replace(live, variant=CANARY, name="canary")
    canvas = np.full((1, 64, 64, 3), 114, np.uint8)
    message = ModelInferRequest(model_name="tiny.graph")
    message.inputs.add(name="image", datatype="UINT8", shape=canvas.shape)
    message.raw_input_contents.append(canvas.tobytes())
    found = Counted(live.metrics, SCOPE, INFER, GRAPH, CANARY)

    async def answer() -> tuple[bytes, dict[str, str]]:
        with live.dispatcher.admit(Asked(message.ByteSize())) as ticket:
            request = open_request(live, found, message, message.ByteSize())
            return await infer_request(serving, canary, found, ticket, request, write_answer)

    data, _ = asyncio.run_coroutine_threadsafe(answer(), running.loop).result(60)
    told = ModelInferResponse.FromString(data)
    assert told.model_name == "tiny.graph"
    assert tensors(told)["output0"].shape == (1, 7, 64)
    assert found.variant == LIVE


def test_an_answer_has_the_headers_that_it_has_over_http(
    running: Running, files: list[bytes]
) -> None:
    service, serving = running.service, running.app.state.serving

    async def answer() -> tuple[bytes, dict[str, str]]:
        message, found = images_request(files[0], id="seven"), outcome(running)
        size = message.ByteSize()
        with service.dispatcher.admit(Asked(size)) as ticket:
            request = open_request(service, found, message, size)
            return await infer_request(serving, service, found, ticket, request, write_answer)

    data, headers = asyncio.run_coroutine_threadsafe(answer(), running.loop).result(60)
    told = ModelInferResponse.FromString(data)
    assert told.id == "seven"
    assert rows(tensors(told)) == detected(running, files[0])
    assert headers["X-Model-Digest"] == service.digest
    assert "infer;dur=" in headers["Server-Timing"]
