"""A service of the Open Inference Protocol as the subject; a real Triton is in tests/cli."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from scripted_service import scripted
from seatrial.accuracy.inference_service import RemoteInference, running_subject
from seatrial.accuracy.predict import EVALUATION
from seatrial.accuracy.service import RemoteDetector
from seatrial.client.calls import Call
from seatrial.client.inference_wire import ModelName
from seatrial.client.wire import ServedModel
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess


class Told(RemoteInference):
    """Our own service by this protocol: it is told what that does not say."""

    def _asked(self) -> Call[ServedModel]:
        found = yield from self._calls.model(self._calls.deadline())
        self.named = ModelName(found.name)
        return found


def test_boxes_are_those_that_the_other_interface_gives(
    service: ServiceProcess,
    picture: Callable[..., Any],
    encode: Callable[..., bytes],
) -> None:
    data = encode(picture({(2, 3): "red", (5, 5): "blue"}))
    with (
        contextlib.closing(Told(service.url)) as subject,
        contextlib.closing(RemoteDetector(service.url)) as other,
    ):
        for rules in (EVALUATION, Thresholds(confidence=0.5), Thresholds(max_detections=1)):
            found, wanted = subject.detect(data, rules), other.detect(data, rules)
            assert found.size == wanted.size
            for name in ("xyxy", "score", "class_id"):
                here, there = getattr(found.detections, name), getattr(wanted.detections, name)
                assert here.tolist() == there.tolist()
        assert len(found.detections) == 1
        with pytest.raises(InvalidInput):
            subject.detect(b"hello", EVALUATION)


def test_our_own_service_is_asked_as_before(service: ServiceProcess) -> None:
    """Although it speaks the protocol, too: its answers say more."""
    with contextlib.closing(running_subject(service.url)) as subject:
        assert type(subject) is RemoteDetector
    with pytest.raises(ServiceFailed, match=r"says its classes \(asked: tiny, tiny\.graph\)"):
        RemoteInference(service.url)


def test_a_service_of_neither_kind_is_told_what_is_missing() -> None:
    nothing = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(ServiceFailed, match="nothing answers at"):
        running_subject(nothing)
    for status, body in ((404, b"none"), (200, b"[1]"), (200, b"<html>")):
        with scripted((status, {}, body)) as service:
            service.model = (404, {}, b"{}")
            with pytest.raises(ServiceFailed, match="/model does not describe a detector"):
                running_subject(service.url)


def test_an_address_of_grpc_is_told_to_be_one() -> None:
    with pytest.raises(InvalidConfig, match="measured over HTTP, and grpc:"):
        running_subject("grpc://127.0.0.1:1")


CONFIG: dict[str, Any] = {
    "parameters": {
        name: {"string_value": text}
        for name, text in {
            "digest": "d", "labels": '["red", "green"]', "engine": "onnxruntime", "device": "cpu",
            "precision": "f32",
        }.items()
    },
    "instance_group": [{"count": 2}, {"count": 1}],
}  # fmt: skip


def asked(config: object, model: ModelName | None = None) -> RemoteInference:
    """A subject that was told this configuration by a server that lists one model."""
    with scripted((200, {}, b'[{"name": "m"}]')) as service:
        service.model = (200, {}, json.dumps(config).encode())
        with contextlib.closing(RemoteInference(service.url, model)) as subject:
            return subject


def test_the_configuration_says_what_an_evaluation_needs() -> None:
    subject = asked(CONFIG)
    assert (subject.labels, subject.digest, subject.concurrency) == (("red", "green"), "d", 4)
    described = {**subject.describe(), "url": ""}
    assert described == {
        "url": "", "name": "m", "digest": "d", "engine": "onnxruntime", "device": "cpu",
        "precision": "f32",
    }  # fmt: skip
    assert asked(CONFIG, ModelName("named", "1")).describe()["name"] == "named"


@pytest.mark.parametrize("lost", ["digest", "labels", "engine", "device", "precision"])
def test_a_configuration_that_lacks_any_of_it_is_none(lost: str) -> None:
    parameters = {key: value for key, value in CONFIG["parameters"].items() if key != lost}
    with pytest.raises(ServiceFailed, match=r"no model at .* says its classes \(asked: m\)"):
        asked({**CONFIG, "parameters": parameters})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {}, b'{"error": "broken"}'), "answers 500: broken"),
        ((429, {}, b""), "answers 429: no reason given"),
        ((200, {}, b"{}"), "does not answer with the tensors"),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    photo: bytes, answer: tuple[int, dict[str, str], bytes], message: str
) -> None:
    with scripted((200, {}, b'[{"name": "m"}]'), answer) as service:
        service.model = (200, {}, json.dumps(CONFIG).encode())
        with (
            contextlib.closing(RemoteInference(service.url)) as subject,
            pytest.raises(ServiceFailed, match=message),
        ):
            subject.detect(photo, EVALUATION)
    assert service.posted == ["/v2/repository/index", "/v2/models/m/infer"]


@pytest.mark.parametrize(
    ("ready", "error"), [(200, InvalidInput), (400, ServiceFailed), (404, ServiceFailed)]
)
def test_a_refusal_is_of_the_image_only_where_the_model_is_still_there(
    photo: bytes, ready: int, error: type[Exception]
) -> None:
    refusal = (400, {}, b'{"error": "Request for unknown model"}')
    with scripted((200, {}, b'[{"name": "m"}]'), refusal) as service:
        service.model = (200, {}, json.dumps(CONFIG).encode())
        with contextlib.closing(RemoteInference(service.url, ModelName("m", "1"))) as subject:
            service.model = (ready, {}, b"")
            with pytest.raises(error, match="Request for unknown model"):
                subject.detect(photo, EVALUATION)
    assert service.posted[1:] == ["/v2/models/m/versions/1/infer"]
