"""Open models: those to compare with are opened once, at their first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from seatrial.demo.models import Model, Models
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput


@pytest.fixture
def counted(open_tiny: Callable[..., Model]) -> Iterator[tuple[Models, list[str]]]:
    """Models, and the names that were opened."""
    opened: list[str] = []

    def opening(name: str) -> Callable[[], Model]:
        def run() -> Model:
            opened.append(name)
            return open_tiny(name)

        return run

    with Models(open_tiny(), {"a": opening("a"), "b": opening("b")}) as models:
        yield models, opened


def test_rivals_are_opened_when_asked_for_and_once(counted: tuple[Models, list[str]]) -> None:
    models, opened = counted
    assert (models.rivals, opened) == (["a", "b"], [])
    threads = [threading.Thread(target=models.rival, args=("b",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["b"]
    with pytest.raises(InvalidInput, match="no model 'c'"):
        models.rival("c")


def test_a_refused_image_is_an_error_and_the_next_is_answered(
    open_tiny: Callable[..., Model], pale: Any, encode: Callable[..., bytes]
) -> None:
    data = encode(pale(), "PNG")
    model = open_tiny()
    steps: list[tuple[object, ...]] = []
    try:
        with pytest.raises(InvalidInput):
            model.detect([data, b"no image"], Thresholds())
        found = model.detect([data, data], Thresholds(), lambda *step: steps.append(step))
    finally:
        model.close()
    assert [len(one.detections) for one in found] == [3, 3]
    assert steps == [("detecting", 1, 2), ("detecting", 2, 2)]


def test_the_title_says_what_runs_where(open_tiny: Callable[..., Model]) -> None:
    model = open_tiny("a name")
    try:
        assert model.title == "tiny (onnxruntime, cpu, f32)"
    finally:
        model.close()
