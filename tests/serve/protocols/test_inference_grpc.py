"""The Open Inference Protocol over gRPC, against a real server in the test's process."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dimmed_artifacts import dimmed_artifact
from grpc_calls import (
    Service,
    calls,
    failure,
    graph_request,
    images_request,
    infer,
    tensors,
)
from open_inference import detected, rows
from seatrial import __version__
from seatrial.deployment import CoreLayout, Deployment
from seatrial.serve.canary import Canary
from seatrial.serve.protocols.inference_protobuf import read_call
from seatrial.serve.protocols.off_loop import MOST_TEXT_BYTES
from seatrial.serve.startup import open_service
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")
ROOT = Path(__file__).resolve().parents[3]


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
