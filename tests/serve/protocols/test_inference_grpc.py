"""The Open Inference Protocol over gRPC, against a real server in the test's process."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from dimmed_artifacts import dimmed_artifact
from grpc_calls import Service, calls, failure, field, images_request, stream, tensors
from open_inference import detected, rows
from seatrial import __version__
from seatrial.client.inference_messages import INFER, ModelInferRequest
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.serve.canary import Canary
from seatrial.serve.protocols.inference_protobuf import read_call
from seatrial.serve.protocols.off_loop import MOST_TEXT_BYTES
from seatrial.serve.startup import open_service
from served_application import Running

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

pytestmark = pytest.mark.usefixtures("time_limit")
LIMIT = 2**18
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One application for all tests that leave it as it was."""
    limits = Limits(body_bytes=LIMIT, image_pixels=1_000_000, body_s=2.0, queue=4)
    with run_app(limits, grpc=True) as served:
        yield served


@pytest.fixture(scope="module")
def service(serving: Running) -> Iterator[Service]:
    with calls(serving.grpc_port) as opened:
        yield opened


@pytest.fixture
def outcomes(metric: Callable[..., float]) -> Callable[[int], float]:
    """Number of inferences that ended with a status of HTTP."""
    return lambda code: metric("seatrial_requests_total", route=INFER, code=str(code))


def infer(service: Service, *files: bytes, **more: Any) -> Any:
    return service.ModelInfer(images_request(*files, **more))


def test_health_and_metadata_are_those_of_http(service: Service, serving: Running) -> None:
    assert service.ServerLive().live
    assert service.ServerReady().ready
    assert service.ModelReady(name="tiny").ready
    assert service.ModelReady(name="tiny.graph", version="1").ready
    assert not service.ModelReady(name="none").ready
    assert not service.ModelReady(name="tiny", version="2").ready
    server = service.ServerMetadata()
    told = serving.client.get("/v2").json()
    assert (server.name, server.version) == ("seatrial", __version__)
    assert list(server.extensions) == told["extensions"]
    for name in ("tiny", "tiny.graph"):
        model = service.ModelMetadata(name=name)
        told = serving.client.get(f"/v2/models/{name}").json()
        assert (model.name, model.platform) == (told["name"], told["platform"])
        for ours, theirs in ((model.inputs, told["inputs"]), (model.outputs, told["outputs"])):
            found = [{"name": x.name, "datatype": x.datatype, "shape": [*x.shape]} for x in ours]
            assert found == theirs


def test_configuration_statistics_and_index_are_those_of_http(
    service: Service, serving: Running, files: list[bytes]
) -> None:
    config = service.ModelConfig(name="tiny").config
    told = serving.client.get("/v2/models/tiny/config").json()
    assert config.name == told["name"]
    assert config.input[0].DESCRIPTOR.full_name == "inference.ModelInput"
    assert list(config.input[0].dims) == told["input"][0]["dims"]
    assert config.instance_group[0].count == 1
    assert config.parameters["iou"].string_value == told["parameters"]["iou"]["string_value"]
    index = service.RepositoryIndex().models
    assert [(one.name, one.version, one.state) for one in index] == [
        ("tiny", "1", "READY"), ("tiny.graph", "1", "READY"),
    ]  # fmt: skip
    before = service.ModelStatistics(name="tiny").model_stats[0]
    infer(service, *files)
    after = service.ModelStatistics(name="tiny").model_stats[0]
    assert after.inference_count - before.inference_count == len(files)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert [one.name for one in service.ModelStatistics().model_stats] == ["tiny", "tiny.graph"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "in lists"])
def test_boxes_are_those_of_detect(
    service: Service, serving: Running, files: list[bytes], raw: bool
) -> None:
    answer = infer(service, files[0], raw=raw, id="seven")
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "seven")
    assert bool(answer.raw_output_contents) == raw
    found = tensors(answer)
    assert [*found] == ["boxes", "scores", "class_ids", "labels", "counts"]
    assert rows(found) == detected(serving, files[0])
    assert found["counts"].tolist() == [2]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "in lists"])
def test_several_images_in_one_request(
    service: Service, serving: Running, files: list[bytes], raw: bool
) -> None:
    found = tensors(infer(service, *files, raw=raw))
    assert rows(found) == [row for one in files for row in detected(serving, one)]
    assert found["counts"].tolist() == [2, 0, 1, 1]


def test_parameters_and_outputs(service: Service, serving: Running, files: list[bytes]) -> None:
    request = images_request(files[0], parameters={"max_detections": 1, "priority": 2})
    request.outputs.add(name="counts")
    assert {k: v.tolist() for k, v in tensors(service.ModelInfer(request)).items()} == {
        "counts": [1]
    }
    # As KServe's client writes it.
    request.inputs[0].parameters["binary_data_size"].int64_param = len(
        request.raw_input_contents[0]
    )
    request.outputs[0].parameters["binary_data"].bool_param = False
    listed = service.ModelInfer(request)
    assert not listed.raw_output_contents
    assert tensors(listed)["counts"].tolist() == [1]
    found = tensors(infer(service, files[0], parameters={"confidence": 0.99}))
    assert rows(found) == detected(serving, files[0], "?confidence=0.99")


@pytest.mark.parametrize("raw", [True, False])
def test_images_in_base64_that_say_so(
    service: Service, serving: Running, files: list[bytes], raw: bool
) -> None:
    """As MLServer's codec for files writes them; a long one is unpacked on a thread."""
    long = files[0] + bytes(MOST_TEXT_BYTES)  # bytes behind a JPEG's end do not matter
    request = images_request(*(base64.b64encode(one) for one in (files[0], long)), raw=raw)
    request.inputs[0].parameters["content_type"].string_param = "base64"
    assert rows(tensors(service.ModelInfer(request))) == 2 * detected(serving, files[0])
    (content,) = (one.content for one in read_call(request)[0].inputs)
    assert content.text_bytes > MOST_TEXT_BYTES


def graph_request(canvas: np.ndarray[Any, Any], raw: bool = True) -> Any:
    request = ModelInferRequest(model_name="tiny.graph")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=canvas.shape)
    if raw:
        request.raw_input_contents.append(canvas.tobytes())
    else:
        tensor.contents.uint_contents.extend(canvas.ravel().tolist())
    return request


def test_a_raw_tensor_goes_in_and_raw_outputs_come_out(service: Service) -> None:
    canvas = np.full((1, 64, 64, 3), 114, np.uint8)
    canvas[0, 16:24, 24:32] = (255, 0, 0)
    output = tensors(service.ModelInfer(graph_request(canvas)))["output0"]
    assert output.shape == (1, 7, 64)
    at = 2 * 8 + 3  # the red cell
    assert output[0, :4, at].tolist() == [28, 20, 16, 16]
    assert output[0, 4, at] > 0.5 > output[0, 5:, at].max()
    listed = service.ModelInfer(graph_request(canvas, raw=False))
    assert not listed.raw_output_contents
    assert (tensors(listed)["output0"] == output).all()


def test_times_of_the_stages_are_trailing_metadata(
    serving: Running, service: Service, files: list[bytes]
) -> None:
    _, call = service.ModelInfer(images_request(files[0]), whole=True)
    times = dict(call.trailing_metadata())["server-timing"]
    stages = [one.partition(";")[0] for one in times.split(", ")]
    assert stages[:2] == ["admission", "receive"]
    assert dict(call.trailing_metadata())["x-model-digest"] == serving.service.digest
    assert {"decode", "infer", "encode", "total"} <= {*stages}


def test_calls_have_names(service: Service, files: list[bytes]) -> None:
    """W3C Trace Context, as over HTTP: of answers and of errors."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    given = (
        ("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "a=1,b=2"),
        ("x-request-id", "seven"),
    )  # fmt: skip
    _, call = service.ModelInfer(images_request(files[0]), metadata=given, whole=True)
    *_, wrong = failure(service.ModelInfer, images_request(b"x"), metadata=given)
    for told in (dict(call.trailing_metadata()), wrong):
        assert told["x-request-id"] == "seven"
        assert told["tracestate"] == "a=1,b=2"
        version, own_trace, own_span, flags = told["traceparent"].split("-")
        assert (version, own_trace, flags) == ("00", trace, "01")
        assert own_span != span


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


def test_messages_over_the_limit_are_refused(
    service: Service, outcomes: Callable[[int], float], until: Callable[..., Any]
) -> None:
    before = outcomes(413)
    over = images_request(b"\xff" * (LIMIT + 2**17))
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
    for size, refused in ((LIMIT, False), (LIMIT + 1, True)):
        message = images_request(b"\xff" * size, raw=raw, id="n" * 100)
        if stream_of:
            (answer,) = stream(service, [message])
            details = answer.error_message
            code = answer.infer_response.parameters["x-error-code"].string_param
            assert code == ("InputTooLarge" if refused else "UnsupportedImage")
        else:
            status, details, _ = failure(service.ModelInfer, message)
            assert status == ("RESOURCE_EXHAUSTED" if refused else "INVALID_ARGUMENT")
        words = f"have {size} bytes, and at most {LIMIT} are taken; send a smaller file"
        assert (words in details) == refused
        told = serving.client.post("/detect", content=b"\xff" * size)
        assert told.status_code == (413 if refused else 415)


def test_who_asked_for_little_time_is_told_so(service: Service) -> None:
    """Not that the service has too little."""
    ended = threading.Event()

    def never() -> Iterator[bytes]:
        ended.wait(60)
        yield from ()

    call = service.channel.stream_unary(INFER)
    metadata = (("x-request-timeout-ms", "50"),)
    status, details, _ = failure(call, never(), timeout=60, metadata=metadata)
    ended.set()
    assert status == "DEADLINE_EXCEEDED"
    assert "the message was not here after 0.05 s" in details
    assert "the deadline of the request itself has passed: ask for more time" in details
    assert "limits.body_s" not in details


def test_packed_messages_are_refused_before_they_are_unpacked(
    service: Service, files: list[bytes]
) -> None:
    status, details, _ = failure(
        service.ModelInfer, images_request(files[0]), compression=grpc.Compression.Gzip
    )
    assert (status, "gzip" in details) == ("UNIMPLEMENTED", True)


def test_a_call_has_the_deadline_of_its_client(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    # By the client's clock, or by ours: on a busy machine it may be any of the two.
    before = outcomes(504) + outcomes(499)
    with serving.lanes_held():
        status, _, _ = failure(service.ModelInfer, images_request(files[0]), timeout=0.2)
        assert status == "DEADLINE_EXCEEDED"
        until(lambda: outcomes(504) + outcomes(499) > before)
        until(lambda: serving.detector.lanes.present == 1)  # what holds the lane
    assert tensors(infer(service, files[0]))["counts"].tolist() == [2]


def test_the_deadline_of_a_client_is_in_seconds_and_no_longer_than_allowed(
    serving: Running, service: Service, files: list[bytes], until: Callable[..., Any]
) -> None:
    lanes = serving.detector.lanes

    def given(timeout: float) -> float:
        with serving.lanes_held():
            waiting = service.ModelInfer.future(images_request(files[0]), timeout=timeout)
            until(lambda: lanes.waiting == 1)
            (deadline_s,) = (one.deadline_s for one in [*lanes._places] if one.asks)
            waiting.cancel()
            until(lambda: lanes.present == 1)
        return deadline_s

    assert 0 < given(30.0) <= 30.2  # on the wire gRPC rounds it up, to a tenth
    assert given(3000.0) == serving.service.dispatcher.limits.longest_deadline_s == 60.0


def test_the_parameter_timeout_and_the_deployments_deadline_hold(
    serving: Running, service: Service, files: list[bytes]
) -> None:
    with serving.lanes_held():
        for request in (
            images_request(files[0], parameters={"timeout": 200_000}),
            images_request(files[0]),
        ):
            status, details, metadata = failure(service.ModelInfer, request, timeout=None)
            assert (status, metadata["x-error-code"]) == ("DEADLINE_EXCEEDED", "DeadlineExceeded")
            assert details.startswith("not answered within")
    metadata = (("x-request-timeout-ms", "soon"),)
    status, details, _ = failure(service.ModelInfer, images_request(files[0]), metadata=metadata)
    assert (status, "'soon' is not a whole number" in details) == ("INVALID_ARGUMENT", True)


def test_a_client_that_leaves_gives_its_place_back(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    before = outcomes(499)
    lanes = serving.detector.lanes
    ran = lanes.mean_s
    with serving.lanes_held():
        # It has time left: it is no deadline that ends it.
        waiting = service.ModelInfer.future(images_request(files[0]), timeout=60)
        until(lambda: lanes.waiting == 1)
        waiting.cancel()
        until(lambda: lanes.waiting == 0 and lanes.present == 1)
    until(lambda: outcomes(499) > before)
    assert lanes.mean_s == ran  # it never had a lane


def test_what_would_be_late_is_refused_before_its_message_is_read(
    serving: Running, service: Service, files: list[bytes], metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    before = metric("seatrial_refusals_total", reason="queue")
    silent = service.channel.stream_unary(INFER)
    arrived = threading.Event()

    def never() -> Iterator[bytes]:
        arrived.wait(60)
        yield images_request(files[0]).SerializeToString()

    with serving.lanes_held():
        waiting = [
            service.ModelInfer.future(images_request(files[0]), timeout=60) for _ in range(3)
        ]
        until(lambda: serving.detector.lanes.present == 4)
        status, details, metadata = failure(silent, never(), timeout=30)
        arrived.set()
        for one in waiting:
            one.cancel()
    assert (status, "4 requests wait or run already" in details) == ("UNAVAILABLE", True)
    assert metadata["x-error-code"] == "Overloaded"
    assert int(metadata["retry-after"]) >= 1
    assert metadata["grpc-retry-pushback-ms"] == f"{metadata['retry-after']}000"
    assert int(metadata["x-predicted-wait-ms"]) > 0
    assert metric("seatrial_refusals_total", reason="queue") == before + 1


def test_clients_with_a_policy_of_retries_wait_as_told(
    serving: Running, files: list[bytes], until: Callable[..., Any], metric: Callable[..., float]
) -> None:
    """gRPC's own retries: it comes again after the pushback, and is answered."""
    policy = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": '
        '"0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": '
        '["UNAVAILABLE"]}}]}'
    )
    refused = metric("seatrial_refusals_total", reason="queue")
    with calls(serving.grpc_port, service_config=policy) as service:
        with serving.lanes_held():
            held = [service.ModelInfer.future(images_request(files[0])) for _ in range(3)]
            until(lambda: serving.detector.lanes.present == 4)
            again = service.ModelInfer.future(images_request(files[0]), timeout=60)
            until(lambda: metric("seatrial_refusals_total", reason="queue") == refused + 1)
            for one in held:
                one.cancel()
        assert tensors(again.result())["counts"].tolist() == [2]
    assert metric("seatrial_refusals_total", reason="queue") == refused + 1


def test_a_message_that_does_not_arrive_ends_its_call(
    service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    before = outcomes(408)
    done = threading.Event()

    def never() -> Iterator[bytes]:
        done.wait(60)
        yield b""

    call = service.channel.stream_unary(INFER)
    status, details, _ = failure(call, never(), timeout=30)
    done.set()
    assert status == "DEADLINE_EXCEEDED"
    assert details.startswith("the message was not here after 2 s"), details
    assert outcomes(408) == before + 1


def test_bytes_are_counted_as_long_as_they_are(
    serving: Running, service: Service, files: list[bytes], metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    name = "seatrial_body_bytes_present"
    until(lambda: metric(name) == 0)
    request = images_request(files[0])
    with serving.lanes_held():
        waiting = service.ModelInfer.future(request)
        until(lambda: serving.detector.lanes.waiting == 1)
        assert metric(name) == len(request.SerializeToString())
        waiting.cancel()
        until(lambda: metric(name) == 0)


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


def test_the_example_of_the_reference_runs(
    serving: Running, files: list[bytes], tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "reference" / "open-inference.md").read_text()
    section = page[page.index("## Over gRPC") :]
    example = section.partition("```python\n")[2].partition("```")[0].replace("yolo11n", "tiny")
    (tmp_path / "photo.jpg").write_bytes(files[0])
    done = subprocess.run(
        [sys.executable, "-c", example.replace(":3001", f":{serving.grpc_port}")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[b'blue', b'red'] [["), done.stdout


def test_raw_tensors_are_for_the_live_artifact_as_over_http(
    run_app: Callable[..., Any],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    files: list[bytes],
    until: Callable[..., Any],
) -> None:
    """Tensors fit one graph. Images go to the canary, which has all of them here."""
    with run_app(grpc=True) as running:
        dimmed = dimmed_artifact(tiny_model, tmp_path, 0.6, "dimmed")
        deployment = Deployment(
            "other", engine="onnxruntime", layout=CoreLayout(1, 1, 1, wide=False)
        )
        second = open_service(dimmed, deployment, beside=running.service)
        canary = Canary(second, 1.0, shadow=False, metrics=running.service.metrics)
        held = running.app.state.serving
        running.loop.call_soon_threadsafe(held.begin_canary, canary)
        until(lambda: held.canary is canary)
        canvas = np.full((1, 64, 64, 3), 114, np.uint8)
        with calls(running.grpc_port) as opened:
            _, image = opened.ModelInfer(images_request(files[0]), whole=True)
            _, tensor = opened.ModelInfer(graph_request(canvas), whole=True)
            _, patient = opened.ModelInfer(graph_request(canvas), whole=True, timeout=None)
        digests = [dict(one.trailing_metadata())["x-model-digest"] for one in (image, tensor)]
        assert digests == [dimmed.digest, running.service.digest]
        stages = dict(patient.trailing_metadata())["server-timing"]
        assert [one.partition(";")[0] for one in stages.split(", ")][:2] == ["admission", "receive"]
        told = canary.told()["requests"]
        assert (told["canary_answered"], told["live_answered"]) == (1, 2)
        assert not second.dispatcher.running
        assert not running.service.dispatcher.running
