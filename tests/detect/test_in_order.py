"""Work side by side: the order stays, few items are held, an error ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from seatrial.detect.in_order import in_order


def test_results_come_in_the_order_of_the_items_and_few_are_taken_ahead() -> None:
    taken: list[int] = []
    turn = threading.Event()

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number == 0:  # the first ends after the second
            assert turn.wait(30)
        if number == 1:
            turn.set()
        return number * number

    for count, (item, result) in enumerate(in_order(items(), work, concurrency=2)):
        assert (item, result) == (count, count * count)
        assert len(taken) <= count + 3
    assert taken == list(range(20))


def test_the_error_of_an_item_is_raised_at_its_turn() -> None:
    results = in_order([1, 2, 0, 4], lambda n: 1 // n, concurrency=3)
    assert [next(results)[0], next(results)[0]] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
