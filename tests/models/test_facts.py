"""Facts about a model file on the command line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from seatrial.errors import InvalidConfig
from seatrial.models.facts import ModelFacts, read_numbers, read_size


@pytest.mark.parametrize(
    ("text", "size_hw"), [("640", (640, 640)), ("480x640", (480, 640))]
)  # fmt: skip
def test_a_size_on_the_command_line_is_height_by_width(text: str, size_hw: tuple[int, int]) -> None:
    assert read_size(None, [SimpleNamespace(value=text)]) == size_hw


@pytest.mark.parametrize("text", ["large", "480x", "x640", "480x640x3", "-1", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="is not a size"):
        read_size(None, [SimpleNamespace(value=text)])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("255", (255.0, 255.0, 255.0)),
        ("103.53,116.28,123.675", (103.53, 116.28, 123.675)),
        ("0", (0.0, 0.0, 0.0)),
    ],
)
def test_numbers_of_channels(text: str, value: tuple[float, ...]) -> None:
    assert read_numbers(None, [SimpleNamespace(value=text)]) == value


@pytest.mark.parametrize("text", ["", "a", "1,2", "1,2,3,4", "nan", "inf,1,1", "1;2;3"])
def test_what_is_no_numbers_of_channels(text: str) -> None:
    with pytest.raises(InvalidConfig, match="neither a number nor three numbers"):
        read_numbers(None, [SimpleNamespace(value=text)])


def test_facts_that_were_given_are_kept_as_plain_values() -> None:
    assert ModelFacts().given() == {}
    told = ModelFacts(family="yolox", std=(1.0, 1.0, 1.0), imgsz=(480, 640))
    assert told.given() == {"family": "yolox", "std": (1.0, 1.0, 1.0), "imgsz": (480, 640)}
