"""A running service as the subject: what it is asked, and what its refusals become."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripted_service import ANSWER, MODEL, OK, scripted
from seatrial.accuracy.inference_service import running_subject
from seatrial.accuracy.predict import EVALUATION
from seatrial.accuracy.service import TRIES_WHEN_LATE, RemoteDetector
from seatrial.artifact import Store
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess


def test_service_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(ServiceFailed) as refusal:
        RemoteDetector(url)
    assert refusal.value.message == f"nothing answers at {url}: Connection refused"


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://127.0.0.1", "http://"])
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(InvalidConfig, match="is not an http address"):
        RemoteDetector(url)


def test_service_of_another_artifact_is_refused(
    service: ServiceProcess, store: Store, model_file: Callable[..., Path]
) -> None:
    other = import_onnx(store, model_file(names=("red", "green")))
    with (
        contextlib.closing(RemoteDetector(service.url)) as subject,
        pytest.raises(InvalidInput, match=r"serves tiny \(.*\), not tiny \("),
    ):
        subject.check(other)


def test_service_is_asked_by_the_evaluation_rules_and_again_when_it_is_busy() -> None:
    busy = (503, {"Retry-After": "0"}, b"{}")
    with scripted(busy, busy, OK) as service:
        with contextlib.closing(RemoteDetector(service.url)) as subject:
            assert subject.detect(b"picture", EVALUATION).size.width == 4
            assert subject.concurrency == 7
        assert service.posted == 3 * [
            "/detect?confidence=0.001&iou=0.7&max_detections=300&multi_label=true"
        ]


def test_an_evaluation_gives_way_and_asks_again_where_the_service_was_late() -> None:
    late = (504, {}, b'{"error": {"code": "DeadlineExceeded", "message": "slow"}}')
    busy = (503, {}, b'{"error": {"code": "Overloaded", "message": "busy"}}')
    with scripted(late, busy, late, OK) as service:
        model = {**MODEL, "limits": {"longest_deadline_s": 7.5, "queue": 3}}
        service.model = (200, {}, json.dumps(model).encode())
        with contextlib.closing(running_subject(service.url)) as subject:
            assert subject.detect(b"picture", EVALUATION).size.width == 4
        assert len(service.headers) == 4
        assert {one["x-request-priority"] for one in service.headers} == {"batch"}
        assert all(6000 < int(one["x-request-timeout-ms"]) <= 7500 for one in service.headers)


def test_a_service_that_stays_late_ends_the_evaluation_after_some_tries() -> None:
    late = (504, {}, b'{"error": {"code": "DeadlineExceeded", "message": "slow"}}')
    for patient, tries in ((True, TRIES_WHEN_LATE), (False, 1)):
        with (
            scripted(late) as service,
            contextlib.closing(RemoteDetector(service.url, patient=patient)) as subject,
        ):
            with pytest.raises(ServiceFailed, match="answers 504: slow"):
                subject.detect(b"picture", EVALUATION)
            assert len(service.posted) == tries


def test_warnings_of_a_service_are_those_of_the_image() -> None:
    odd = {**json.loads(ANSWER), "warnings": ["3 bytes are missing"], "timing_ms": {"infer": 2.5}}
    with (
        scripted((200, {}, json.dumps(odd).encode())) as service,
        contextlib.closing(RemoteDetector(service.url)) as subject,
    ):
        seen = subject.detect(b"picture", EVALUATION)
    assert list(seen.warnings) == ["3 bytes are missing"]
    assert seen.timing_ms == {"infer": 2.5}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((504, {}, b'{"error": {"code": "X", "message": "too slow"}}'), "answers 504: too slow"),
        ((404, {}, b"nothing here"), "answers 404 .Not Found.: nothing here"),
        ((200, {}, b"<html>"), "answers something else"),
    ],
)
def test_service_that_answers_something_else(answer: Any, message: str) -> None:
    with (
        scripted(answer) as service,
        contextlib.closing(RemoteDetector(service.url)) as subject,
        pytest.raises(ServiceFailed, match=message),
    ):
        subject.detect(b"picture", EVALUATION)


def test_the_answer_of_another_model_is_not_taken_for_that_of_the_measured_one() -> None:
    """A canary beside it answers some, or a reload came in between."""
    status, headers, body = OK
    other = (status, {**headers, "X-Model-Digest": "f" * 64}, body)
    with (
        scripted(OK, other) as service,
        contextlib.closing(RemoteDetector(service.url)) as subject,
    ):
        subject.detect(b"picture", EVALUATION)
        with pytest.raises(ServiceFailed, match="another model"):
            subject.detect(b"picture", EVALUATION)
