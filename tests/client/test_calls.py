"""The decisions of a call, step by step, without a network and by a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from scripted_service import ANSWER, MODEL
from seatrial.client.calls import Calls, Deadline, Lost, Pause, Send, address
from seatrial.client.retries import RetryBudget
from seatrial.client.wire import HttpAnswer
from seatrial.config import encode_json
from seatrial.errors import DeadlineExceeded, InvalidConfig, Overloaded, ServiceFailed

URL = "http://host:1"
BUSY = HttpAnswer(503, {}, b'{"error": {"code": "Overloaded", "message": "busy"}}')
FOUND = HttpAnswer(200, {}, ANSWER)


class Service:
    """Gives the answers of a script, each after some time."""

    def __init__(self, *answers: HttpAnswer | Lost, takes_s: float = 0.0) -> None:
        self.now = 1000.0
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self._answers, self._takes_s = list(answers), takes_s

    def run(self, call: Any) -> Any:
        got: HttpAnswer | Lost | None = None
        while True:
            try:
                step = call.send(got)
            except StopIteration as done:
                return done.value
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
                got = None
            elif step.target == "/model":
                got = HttpAnswer(200, {}, encode_json(MODEL))
            else:
                self.sent.append(step)
                self.now += self._takes_s
                got = self._answers.pop(0)

    def detect(self, calls: Calls, deadline: Deadline) -> Any:
        return self.run(calls.detect(b"x", {}, deadline, None))

    def calls(self, **options: Any) -> Calls:
        return Calls(URL, **{"timeout_s": 30, "retries": 3, "clock": lambda: self.now, **options})


def told_ms(send: Send) -> int:
    return int(send.headers["X-Request-Timeout-Ms"])


def test_the_deadline_that_is_told_shrinks_with_what_was_spent() -> None:
    service = Service(BUSY, Lost("broken", ""), FOUND, takes_s=2)
    calls = service.calls()
    service.detect(calls, calls.deadline(10))
    first, second, third = map(told_ms, service.sent)
    assert first == 10_000
    assert second == pytest.approx(8000 - 1000 * service.pauses[0], abs=1)
    assert third == pytest.approx(6000 - 1000 * sum(service.pauses), abs=1)
    assert {send.until for send in service.sent} == {1010.0}


def test_a_deadline_of_less_than_a_millisecond_is_one() -> None:
    service = Service(FOUND)
    calls = service.calls()
    service.detect(calls, calls.deadline(0.0004))
    assert told_ms(service.sent[0]) == 1


def test_nothing_is_sent_after_the_deadline() -> None:
    service = Service(FOUND)
    calls = service.calls()
    deadline = calls.deadline(1)
    service.now += 2  # the image took that long to encode
    with pytest.raises(DeadlineExceeded, match="within 1 s"):
        service.detect(calls, deadline)
    assert service.sent == []


def test_a_retry_that_would_begin_after_the_deadline_is_none() -> None:
    for asked_s, sent in ((3, 2), (5, 1), (10**9, 1)):
        busy = HttpAnswer(503, {"retry-after": str(asked_s)}, BUSY.body)
        service = Service(busy, FOUND)
        calls = service.calls(timeout_s=5)
        if sent == 2:
            service.detect(calls, calls.deadline())
            assert service.pauses[0] >= asked_s
        else:
            with pytest.raises(Overloaded):
                service.detect(calls, calls.deadline())
            assert service.pauses == []
        assert len(service.sent) == sent


def test_what_is_late_or_foreign_is_not_sent_again() -> None:
    for lost, kind in ((Lost("late", ""), DeadlineExceeded), (Lost("foreign", "x"), ServiceFailed)):
        service = Service(lost, FOUND)
        calls = service.calls()
        with pytest.raises(kind):
            service.detect(calls, calls.deadline())
        assert len(service.sent) == 1


def test_an_image_that_breaks_connections_is_not_sent_without_end() -> None:
    broken = Lost("broken", "it is gone")
    service = Service(broken, Lost("refused", ""), broken, BUSY, broken, FOUND)
    calls = service.calls(retries=20)
    with pytest.raises(ServiceFailed, match="it is gone"):
        service.detect(calls, calls.deadline())
    assert len(service.sent) == 5


def test_the_budget_is_of_all_calls_and_spares_what_reached_nobody() -> None:
    budget = RetryBudget(share=0, reserve=1)
    for answer, free in ((Lost("refused", ""), True), (BUSY, False), (Lost("broken", ""), False)):
        service = Service(answer, answer, answer, answer, FOUND)
        calls = service.calls(budget=budget, retries=9)
        if free:
            service.detect(calls, calls.deadline())
        else:
            with pytest.raises((Overloaded, ServiceFailed)):
                service.detect(calls, calls.deadline())
        assert len(service.sent) == {"refused": 5, "broken": 1}.get(getattr(answer, "why", ""), 2)


def test_readiness_is_asked_for_until_it_is_there_or_the_time_is_up() -> None:
    service = Service(Lost("refused", "no"), HttpAnswer(503, {}, b""), HttpAnswer(200, {}, b""))
    calls = service.calls()
    service.run(calls.wait_until_ready(10))
    assert len(service.sent) == 3
    service = Service(*[HttpAnswer(404, {}, b"")] * 1000)
    calls = service.calls()
    with pytest.raises(ServiceFailed, match="not ready after 2 s: GET /readyz answers 404"):
        service.run(calls.wait_until_ready(2))
    assert service.now <= 1002


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a", ("http://a", "")),
        ("http://a:3000//", ("http://a:3000", "")),
        ("https://a/cameras/1/", ("https://a/cameras/1", "/cameras/1")),
        ("http://[::1]:3000", ("http://[::1]:3000", "")),
    ],
)
def test_addresses(url: str, parts: tuple[str, str]) -> None:
    assert address(url) == parts


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("http://host:3000/detect", "http://host:3000"),
        ("http://host/detect.jpg/", "http://host"),
        ("https://proxy/cats/v2/models/tiny/infer", "https://proxy/cats"),
    ],
)
def test_a_path_of_a_service_is_no_address(url: str, right: str) -> None:
    with pytest.raises(InvalidConfig, match="is a path of a service") as caught:
        address(url)
    assert caught.value.hint == f"give {right}"
    for mounted in ("detector", "v2", "v2/vision", "team/model"):  # by a proxy
        assert address(f"{right}/{mounted}")[0] == f"{right}/{mounted}"
