"""How often, and after which time, a request is sent again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from seatrial.client.retries import LONGEST_S, RESERVE, RetryBudget, pause_s, retry_after_s

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_a_budget_is_a_share_of_the_requests_and_a_reserve() -> None:
    budget = RetryBudget()
    sent = 0
    for _ in range(1000):
        budget.request()
        while budget.take():
            sent += 1
    assert RESERVE + 99 <= sent <= RESERVE + 100
    # Requests without retries save up no more than the reserve.
    for _ in range(10_000):
        budget.request()
    assert sum(budget.take() for _ in range(1000)) == RESERVE


def test_a_budget_counts_right_in_threads() -> None:
    budget = RetryBudget(share=0, reserve=1000)
    start = threading.Barrier(4)

    def take(_: int) -> int:
        start.wait(60)
        return sum(budget.take() for _ in range(500))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1000


def test_a_wait_is_what_the_service_asks_for_and_a_random_time() -> None:
    def longest(low: float, high: float) -> float:
        assert low == 0
        return high

    waits = [pause_s(attempt, draw=longest) for attempt in range(9)]
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-1] == pause_s(10**6, draw=longest) == LONGEST_S
    assert pause_s(0, 3, draw=longest) == pytest.approx(3.1)
    assert pause_s(5, 3, draw=lambda low, high: low) == 3
    drawn = {pause_s(3, 1) for _ in range(100)}
    assert len(drawn) > 50
    assert all(1 <= wait <= 1.8 for wait in drawn)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("120", 120),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True), 30),
        (format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True), 0),
        (None, 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("\u0667", 0),
        ("Thu, 99 Foo 2026 00:00:00 GMT", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, lambda: NOW) == pytest.approx(seconds)


def test_a_wait_without_end_is_a_number() -> None:
    assert retry_after_s("9" * 400) == float("inf")
