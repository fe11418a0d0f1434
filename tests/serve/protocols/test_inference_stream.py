"""Streams of inference over gRPC, against a real server in the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_calls import Requests, Service, calls, failure, images_request, stream, tensors
from open_inference import detected, rows
from seatrial.artifact import Artifact
from seatrial.client.inference_messages import STREAM
from seatrial.deployment import Limits, Server
from seatrial.serve.protocols import inference_stream
from seatrial.serve.trace_context import Trace
from served_application import Running, serve_application

pytestmark = pytest.mark.usefixtures("time_limit")
STRICT = (("triton_grpc_error", "true"),)
BODY = 2**18
STREAMS = 2


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One application for all tests that leave it as it was; one lane, so 2 threads."""
    limits = Limits(
        body_bytes=BODY, bytes_in_flight=2 * STREAMS * BODY, image_pixels=1_000_000, queue=12
    )
    with run_app(limits, grpc=True) as served:
        yield served


@pytest.fixture
def outcomes(metric: Callable[..., float]) -> Callable[[int], float]:
    """Number of requests of streams that ended with a status of HTTP."""
    return lambda code: metric("seatrial_requests_total", route=STREAM, code=str(code))


def ended(call: Any) -> tuple[str, str, dict[str, str]]:
    """Status, details and trailing metadata of a stream that ends with its next answer."""
    return failure(next, call)


def test_answers_come_in_order_and_are_those_of_detect(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    before = outcomes(200)
    sent = [*files, *files[:2]]
    requests = (
        images_request(one, id=str(index), raw=index % 2 == 0) for index, one in enumerate(sent)
    )
    answers = list(stream(service, requests))
    assert [one.infer_response.id for one in answers] == [*map(str, range(len(sent)))]
    for one, file in zip(answers, sent, strict=True):
        assert one.error_message == ""
        assert rows(tensors(one.infer_response)) == detected(serving, file)
        assert one.infer_response.parameters["triton_final_response"].bool_param
    assert outcomes(200) == before + len(sent)


def test_an_error_is_the_answer_to_its_request_alone(
    service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    before = [outcomes(code) for code in (200, 400, 404, 415)]
    good, bad, unknown, none, last = stream(
        service,
        [
            images_request(files[0], id="good"),
            images_request(b"hello", id="bad"),
            images_request(files[0], id="unknown", model_version="7"),
            b"\xff" * 64,
            images_request(files[2], id="last"),
        ],
    )
    assert tensors(good.infer_response)["counts"].tolist() == [2]
    assert tensors(last.infer_response)["counts"].tolist() == [1]
    assert "known formats: JPEG" in bad.error_message
    assert (bad.infer_response.id, bad.infer_response.model_name) == ("bad", "tiny")
    assert bad.infer_response.parameters["x-error-code"].string_param == "UnsupportedImage"
    assert bad.infer_response.parameters["triton_final_response"].bool_param
    assert "has no version '7'" in unknown.error_message
    assert "no ModelInferRequest" in none.error_message
    assert none.infer_response.id == ""
    assert [outcomes(code) for code in (200, 400, 404, 415)] == [
        before[0] + 2, before[1] + 1, before[2] + 1, before[3] + 1,
    ]  # fmt: skip


def test_clients_that_ask_for_the_status_get_it_with_the_first_error(
    service: Service, files: list[bytes]
) -> None:
    requests = [images_request(files[0]), images_request(b"hello"), images_request(files[0])]
    call = stream(service, requests, metadata=STRICT)
    assert next(call).error_message == ""
    status, details, metadata = ended(call)
    assert (status, metadata["x-error-code"]) == ("INVALID_ARGUMENT", "UnsupportedImage")
    assert "known formats: JPEG" in details


def test_a_fault_of_ours_says_nothing_of_itself(
    service: Service, files: list[bytes], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, outcomes: Callable[[int], float],
) -> None:  # fmt: skip
    def fail(*words: object) -> None:
        raise RuntimeError("secret")

    before = outcomes(500)
    monkeypatch.setattr("seatrial.serve.protocols.grpc_request.read_call", fail)
    (answer,) = stream(service, [images_request(files[0], id="seven")])
    assert answer.error_message == "the server failed; see the server's log"
    assert answer.infer_response.id == "seven"
    status, details, _ = ended(stream(service, [images_request(files[0])], metadata=STRICT))
    assert (status, details) == ("INTERNAL", "the server failed; see the server's log")
    assert outcomes(500) == before + 2
    assert "secret" in caplog.text


def test_a_stream_has_few_requests_under_way_and_its_sender_waits(
    serving: Running, service: Service, files: list[bytes]
) -> None:
    lanes = serving.detector.lanes
    most = 0
    with calls(serving.grpc_port) as other:
        with serving.lanes_held():
            call = stream(service, [images_request(files[0], id=str(n)) for n in range(40)])
            while most < 3 or lanes.present < 3:  # two of the stream, and what holds the lane
                most = max(most, lanes.present)
            for _ in range(20):
                other.ServerLive()
                most = max(most, lanes.present)
        ids = []
        for one in call:
            ids.append(one.infer_response.id)
            most = max(most, lanes.present)
    assert ids == [*map(str, range(40))]
    assert most == 3


def test_each_request_has_a_deadline_of_its_own(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    before = outcomes(504)
    requests = Requests()
    call = stream(service, requests)
    with serving.lanes_held():
        requests.send(images_request(files[0], id="late", parameters={"timeout": 100_000}))
        late = next(call)
    requests.send(images_request(files[0], id="next"))
    answer = next(call)
    requests.end()
    assert list(call) == []
    assert late.infer_response.id == "late"
    assert late.infer_response.parameters["x-error-code"].string_param == "DeadlineExceeded"
    assert (answer.infer_response.id, answer.error_message) == ("next", "")
    assert outcomes(504) == before + 1


def test_metadata_of_the_stream_holds_for_each_request(
    serving: Running, service: Service, files: list[bytes]
) -> None:
    late = (("x-request-timeout-ms", "100"),)
    with serving.lanes_held():
        (answer,) = stream(service, [images_request(files[0])], metadata=late)
    assert answer.infer_response.parameters["x-error-code"].string_param == "DeadlineExceeded"
    (wrong,) = stream(
        service, [images_request(files[0])], metadata=(("x-request-priority", "first"),)
    )
    assert "neither live nor batch" in wrong.error_message


def test_a_refusal_says_when_to_come_again(
    serving: Running, service: Service, files: list[bytes], until: Callable[..., Any],
    metric: Callable[..., float],
) -> None:  # fmt: skip
    before = metric("seatrial_refusals_total", reason="queue")
    with serving.lanes_held():
        waiting = [service.ModelInfer.future(images_request(files[0])) for _ in range(11)]
        until(lambda: serving.detector.lanes.present == 12)
        (answer,) = stream(service, [images_request(files[0], id="seven")])
        for one in waiting:
            one.cancel()
    assert "requests wait or run already" in answer.error_message
    told = answer.infer_response.parameters
    assert told["x-refused-for"].string_param == "queue"
    assert int(told["retry-after"].string_param) >= 1
    assert metric("seatrial_refusals_total", reason="queue") == before + 1


def test_a_client_that_leaves_gives_its_places_back(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float],
    until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before, lanes = outcomes(499), serving.detector.lanes
    ran, told = lanes.mean_s, list[tuple[str, int]]()

    def report(scope: Any, trace: Trace, status: int, size: int) -> None:
        told.append((scope["path"], status))

    monkeypatch.setattr(serving.app.state.serving, "reports", (report,))
    with serving.lanes_held():
        call = stream(service, [images_request(files[0]) for _ in range(5)])
        until(lambda: lanes.present == 3)
        call.cancel()
        until(lambda: lanes.present == 1)
    until(lambda: outcomes(499) == before + 2)
    assert lanes.mean_s == ran  # none had a lane
    until(lambda: told == [(STREAM, 499)] * 2)


def test_there_are_only_so_many_streams_and_calls_have_places_beside_them(
    service: Service, files: list[bytes], until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(inference_stream, "IDLE_S", 3600.0)
    requests = [Requests(images_request(files[0])) for _ in range(STREAMS)]
    open_now = [stream(service, one) for one in requests]
    assert [next(one).error_message for one in open_now] == [""] * STREAMS
    status, details, _ = ended(stream(service, [images_request(files[0])]))
    assert (status, details.partition(";")[0]) == (
        "UNAVAILABLE", f"{STREAMS} streams are open already",
    )  # fmt: skip
    assert tensors(service.ModelInfer(images_request(files[0])))["counts"].tolist() == [2]
    for one in requests:
        one.end()
    assert [list(one) for one in open_now] == [[]] * STREAMS

    def opens() -> bool:
        try:
            return len(list(stream(service, [images_request(files[0])]))) == 1
        except grpc.RpcError:
            return False

    until(opens)


def test_a_stream_that_does_nothing_gives_its_place_up(
    serving: Running, service: Service, files: list[bytes], until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A message that is no request, now and then, would keep it for ever."""
    monkeypatch.setattr(inference_stream, "UNUSED_S", 0.0)
    monkeypatch.setattr(inference_stream, "IDLE_S", 3600.0)
    used, unused = Requests(images_request(files[0])), Requests(b"")
    empty = stream(service, unused)  # first: by their times it is the one that waits longest
    assert next(empty).error_message != ""
    useful = stream(service, used)
    assert next(useful).error_message == ""

    def answers() -> list[Any]:
        try:
            return list(stream(service, [images_request(files[2])]))
        except grpc.RpcError:  # the others are busy until gRPC has written their answers
            return []

    (answer,) = until(answers)
    assert answer.error_message == ""
    status, details, metadata = ended(empty)
    assert (status, metadata["x-refused-for"]) == ("UNAVAILABLE", "slow")
    assert "other streams needed the place" in details
    unused.end()
    monkeypatch.setattr(inference_stream, "IDLE_S", 0.0)
    with serving.lanes_held():  # one with a request under way keeps its place
        used.send(images_request(files[0]))
        until(lambda: serving.detector.lanes.present == 2)  # no stream is idle that would give way
        other = Requests(images_request(files[0]))
        busy = stream(service, other)
        until(lambda: serving.detector.lanes.present == 3)
        status, details, _ = ended(stream(service, [images_request(files[0])]))
        assert (status, details.partition(";")[0]) == (
            "UNAVAILABLE", f"{STREAMS} streams are open already",
        )  # fmt: skip
    assert [next(one).error_message for one in (useful, busy)] == ["", ""]
    for one in (used, other):
        one.end()
    assert [list(one) for one in (useful, busy)] == [[], []]  # their places are free again


def test_a_message_over_the_limit_ends_its_stream(service: Service, files: list[bytes]) -> None:
    over = images_request(b"\xff" * (BODY + 2**17))
    call = stream(service, [over, images_request(files[0])])
    assert ended(call)[0] == "RESOURCE_EXHAUSTED"


def test_a_stream_without_requests_is_ended(
    run_app: Callable[..., Any], files: list[bytes], until: Callable[..., Any]
) -> None:
    with (
        run_app(Limits(idle_s=0.3, deadline_s=30.0), grpc=True) as serving,
        calls(serving.grpc_port) as service,
    ):
        silent = Requests()
        status, details, _ = ended(stream(service, silent))
        assert status == "DEADLINE_EXCEEDED"
        assert details.startswith("no request came for 0.3 s")
        silent.end()
        # One that waits for an answer is not idle.
        requests = Requests(images_request(files[0]))
        with serving.lanes_held():
            call = stream(service, requests)
            until(lambda: serving.detector.lanes.waiting == 1)
            silent = Requests()
            assert ended(stream(service, silent))[0] == "DEADLINE_EXCEEDED"
            silent.end()
        assert next(call).error_message == ""
        requests.end()


def test_the_drain_answers_what_was_read_and_ends_the_stream(
    tiny_artifact: Artifact, files: list[bytes], until: Callable[..., Any]
) -> None:
    limits = Limits(drain_s=20, deadline_s=30.0)
    with (
        serve_application(tiny_artifact, limits, grpc=True) as serving,
        calls(serving.grpc_port) as service,
    ):
        requests = Requests(images_request(files[0], id="0"), images_request(files[2], id="1"))
        idle = Requests()
        with serving.lanes_held():
            busy, quiet = stream(service, requests), stream(service, idle)
            until(lambda: serving.detector.lanes.waiting == 2)
            serving.service.health.draining = True
            status, details, metadata = ended(quiet)
        assert (status, metadata["x-refused-for"]) == ("UNAVAILABLE", "drain")
        assert "open a stream to another server" in details
        assert [next(busy).infer_response.id for _ in range(2)] == ["0", "1"]
        assert ended(busy)[0] == "UNAVAILABLE"
        requests.end()
        idle.end()


def test_a_token_that_is_withdrawn_ends_its_streams(
    tiny_artifact: Artifact, files: list[bytes], tmp_path: Path, until: Callable[..., Any]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-sixteen-characters-or-more\n")
    known = (("authorization", "Bearer a-token-of-sixteen-characters-or-more"),)
    with (
        serve_application(
            tiny_artifact, grpc=True, server=Server(token_file=str(tokens))
        ) as serving,
        calls(serving.grpc_port) as service,
    ):
        assert ended(stream(service, [images_request(files[0])]))[0] == "UNAUTHENTICATED"
        requests = Requests(images_request(files[0]))
        call = stream(service, requests, metadata=known)
        assert next(call).error_message == ""
        tokens.write_text("another-token-of-sixteen-characters\n")

        def refused() -> bool:
            requests.send(images_request(files[0]))
            try:
                next(call)
            except grpc.RpcError as error:
                return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
            return False

        until(refused)
        requests.end()


def test_the_time_to_send_an_answer_is_a_stage(
    service: Service, files: list[bytes], metric: Callable[..., float], until: Callable[..., Any]
) -> None:
    def sent() -> float:
        return metric("seatrial_stage_seconds_count", stage="send")

    before = sent()
    service.ModelInfer(images_request(files[0]))
    until(lambda: sent() == before + 1)
    assert len(list(stream(service, [images_request(one) for one in (files[0], b"x")]))) == 2
    until(lambda: sent() == before + 2)  # of what was answered
