"""Lines about requests: each one, whatever it holds, or only failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from grpc_calls import calls, failure, images_request, stream
from seatrial.client.inference_messages import INFER, STREAM
from seatrial.deployment import Limits, Server
from seatrial.errors import DeadlineExceeded, EngineFailed
from seatrial.serve import log, request_log
from seatrial.serve.protocols.grpc_methods import FAULT
from seatrial.serve.request_log import RefusalLog
from seatrial.serve.trace_context import Trace


@pytest.fixture
def rows(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the lines that were written since the last call."""
    monkeypatch.setattr(log, "_lines", [log._json])
    monkeypatch.setattr(request_log.log_refusal, "_until_s", 0.0)
    monkeypatch.setattr(request_log.log_refusal, "left_out", 0)
    request_log._failures.clear()
    return lambda: [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if line[:1] == "{"
    ]


def test_each_request_is_a_line_with_its_outcome(
    run_app: Callable[..., Any], rows: Any, photo: bytes
) -> None:
    began = time.perf_counter()
    with run_app(engine="null", log_requests=True) as running:
        size = len(running.client.get("/model").content)
        running.client.post("/detect", content=b"no image", headers={"content-type": "image/png"})
        running.client.get('/a%0a{"status":200}')
        answer = running.client.post("/detect", content=photo, headers={"X-Request-Id": "job-7"})
    found = [row for row in rows() if row["event"] == "request"]
    assert [(row["method"], row["path"], row["status"]) for row in found] == [
        ("GET", "/model", 200), ("POST", "/detect", 415), ("GET", '/a\n{"status":200}', 404),
        ("POST", "/detect", 200),
    ]  # fmt: skip
    assert found[0]["bytes"] == size
    assert {row["client"] for row in found} == {"127.0.0.1"}
    assert min(row["duration_s"] for row in found) > 0
    assert sum(row["duration_s"] for row in found) < time.perf_counter() - began
    assert found[1]["code"] == "UnsupportedImage"
    last = found[-1]
    assert (last["request_id"], last["route"]) == ("job-7", "/detect")
    assert last["trace_id"] == answer.headers["traceparent"].split("-")[1]
    stages = last["stages_s"]
    assert {"admission", "receive", "decode", "infer", "encode"} <= set(stages)
    assert sum(stages.values()) <= last["duration_s"] + 1e-5


def test_without_it_only_failures_are_lines(
    run_app: Callable[..., Any], rows: Any, photo: bytes
) -> None:
    with run_app(Limits(deadline_s=0.5), engine="null") as running:
        running.client.get("/model")
        running.client.post("/detect", content=b"no image")
        assert rows() == []
        with running.lanes_held():
            answer = running.client.post("/detect", content=photo)
        (row,) = rows()
    assert answer.status_code == row["status"] == 504
    assert (row["level"], row["event"], row["code"]) == (
        "error", "request_failed", "DeadlineExceeded",
    )  # fmt: skip
    assert row["request_id"] == answer.json()["error"]["request_id"]
    assert row["route"] == "/detect"


@pytest.mark.parametrize("requests", [False, True])
def test_a_deadline_that_the_request_named_is_no_error_of_the_service(
    run_app: Callable[..., Any], rows: Any, photo: bytes, requests: bool
) -> None:
    """Each is counted: as a line, or as one that was left out."""
    statuses, began = [], time.monotonic()
    with run_app(engine="null", log_requests=requests) as running, running.lanes_held():
        for _ in range(15):
            answer = running.client.post(
                "/detect", content=photo, headers={"X-Request-Timeout-Ms": "100"}
            )
            statuses.append(answer.status_code)
    found = [row for row in rows() if row.get("status") == 504]
    assert {row["level"] for row in found} == {"warning"}
    failed = [row for row in found if row["event"] == "request_failed"]
    (kind,) = request_log._failures.values()
    left_out = kind.left_out + sum(row.get("left_out", 0) for row in failed)
    assert len(failed) + left_out == statuses.count(504) > 0
    assert len(failed) <= request_log.MOST * (time.monotonic() - began + 1)
    assert len(found) - len(failed) == (statuses.count(504) if requests else 0)


def test_failures_are_bounded_by_their_kind(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None hides the lines of another kind."""
    monkeypatch.setattr(request_log.time, "monotonic", lambda: 100.0)
    scope = {"method": "POST", "path": "/detect"}
    late, asked, broken = DeadlineExceeded("m"), DeadlineExceeded("m"), EngineFailed("m")
    asked.asked = True
    for _ in range(request_log.MOST + 5):
        for error in (late, asked):
            request_log.log_failure(scope, error)
    request_log.log_failure(scope, broken)
    found = [(row["level"], row["code"]) for row in rows()]
    assert found.count(("error", "DeadlineExceeded")) == request_log.MOST
    assert found.count(("warning", "DeadlineExceeded")) == request_log.MOST
    assert found.count(("error", "EngineFailed")) == 1


def test_a_fault_of_the_service_is_a_line(
    run_app: Callable[..., Any], rows: Any, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_app(engine="null", log_requests=True) as running:
        monkeypatch.setattr("seatrial.serve.app.read_image", lambda *given: 1 // 0)
        answer = running.client.post("/detect", content=photo)
        assert running.client.get("/livez").status_code == 200  # on another connection
    assert answer.status_code == 500
    found = rows()
    (row,) = (row for row in found if row["event"] == "request" and row["path"] == "/detect")
    assert (row["level"], row["status"], row["code"]) == ("error", 500, "InternalError")
    (row,) = (row for row in found if row["event"] == "request_failed")
    assert (row["status"], row["code"]) == (500, "InternalError")
    assert row["request_id"] == answer.json()["error"]["request_id"]


@pytest.mark.parametrize("way", ["http", "grpc", "stream", "strict stream"])
def test_lines_and_tracebacks_of_faults_are_bounded(
    run_app: Callable[..., Any],
    rows: Any,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    """Whoever finds a request that ends in a fault could fill the log; none says less for it."""
    monkeypatch.setattr("seatrial.serve.request_log.MOST", 2)
    monkeypatch.setattr("seatrial.serve.app.read_image", lambda *given: 1 // 0)
    for module in ("inference_grpc", "inference_stream"):
        name = f"seatrial.serve.protocols.{module}.open_request"
        monkeypatch.setattr(name, lambda *given: 1 // 0)
    with run_app(engine="null", grpc=True) as running, calls(running.grpc_port) as service:
        clock = SimpleNamespace(monotonic=lambda: 100.0, perf_counter=time.perf_counter)
        monkeypatch.setattr(request_log, "time", clock)
        caplog.clear()
        for _ in range(5):
            end_in_a_fault(way, running, service, photo)
        clock.monotonic = lambda: 101.0
        end_in_a_fault(way, running, service, photo)
        until_logged = time.monotonic() + 60
        # The server logs behind the answer.
        while len(tracebacks(caplog)) < 3 and time.monotonic() < until_logged:
            time.sleep(0.01)
    found = rows()
    assert [(row["event"], row["code"], row["status"]) for row in found] == [
        ("request_failed", "InternalError", 500)
    ] * 3
    assert [row.get("left_out", 0) for row in found] == [0, 0, 3]
    path = {"http": "/detect", "grpc": INFER}.get(way, STREAM)
    assert all(path in row["message"] for row in found)
    assert tracebacks(caplog) == [ZeroDivisionError] * 3


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[type[BaseException] | None]:
    """Types of the errors whose tracebacks were logged."""
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


def end_in_a_fault(way: str, running: Any, service: Any, photo: bytes) -> None:
    """Send a request that the service fails at."""
    if way == "http":
        assert running.client.post("/detect", content=photo).status_code == 500
    elif way == "grpc":
        assert failure(service.ModelInfer, images_request(photo))[0] == "INTERNAL"
    elif way == "stream":
        (answer,) = stream(service, [images_request(photo)])
        assert FAULT in answer.error_message
    else:
        strict = {"metadata": (("triton_grpc_error", "true"),)}
        with pytest.raises(grpc.RpcError, match=FAULT):
            list(stream(service, [images_request(photo)], **strict))


@pytest.mark.parametrize("requests", [False, True])
def test_who_has_no_token_is_a_line_of_one_kind_wherever_it_is_refused(
    run_app: Callable[..., Any], rows: Any, photo: bytes, tmp_path: Path, requests: bool
) -> None:
    (tmp_path / "tokens").write_text("0123456789abcdef")
    server = Server(token_file=str(tmp_path / "tokens"))
    with (
        run_app(engine="null", server=server, grpc=True, log_requests=requests) as running,
        calls(running.grpc_port) as service,
    ):
        running.client.post("/detect", content=photo)  # refused in front of the application
        running.client.get("/model")
        failure(service.ServerLive)
        failure(service.ModelInfer, images_request(photo))
    found = [row for row in rows() if row["event"] == "request_refused"]
    assert [(row["status"], row["code"], row["route"]) for row in found] == (
        [(401, "Unauthorized", "other")] * 4 if requests else []
    )


def test_refusals_under_load_are_lines_of_which_many_are_left_out(
    run_app: Callable[..., Any], rows: Any, photo: bytes
) -> None:
    with run_app(Limits(queue=1), engine="null") as running, running.lanes_held():
        answers = [running.client.post("/detect", content=photo) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {503}
    found = [row for row in rows() if row["event"] == "request_refused"]
    assert [row["request_id"] for row in found] == [
        answer.headers["x-request-id"] for answer in answers
    ]
    assert {(row["status"], row["code"], row["route"]) for row in found} == {
        (503, "Overloaded", "/detect")
    }


def test_lines_in_a_second_are_bounded_and_the_next_says_how_many_are_missing(
    rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a second in which there are few again, all are lines."""
    now = [100.0]
    monkeypatch.setattr(request_log.time, "monotonic", lambda: now[0])
    refused = RefusalLog()

    def lines(times: int) -> list[int]:
        """Number that each line of so many refusals says is left out."""
        for _ in range(times):
            refused(Trace(), 503, "Overloaded", "m", "/detect")
        now[0] += 1
        return [row.get("left_out", 0) for row in rows()]

    most = request_log.MOST
    assert lines(most + 5) == [0] * most
    assert lines(3) == [5]
    assert lines(1) == [2]
    assert lines(most) == [0] * most


@pytest.mark.parametrize("requests", [False, True])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ],
)
def test_what_is_no_request_is_a_line_where_requests_are(
    run_app: Callable[..., Any], rows: Any, requests: bool, sent: bytes, status: int
) -> None:
    """A status over 500 is no fault of the service here."""
    with (
        run_app(engine="null", log_requests=requests) as running,
        running.connect() as connection,
    ):
        connection.sendall(sent)
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d" % status)
    found = [(row["status"], row["code"]) for row in rows()]
    assert found == ([(status, f"Http{status}")] if requests else [])
