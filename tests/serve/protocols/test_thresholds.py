"""The thresholds of one request: the deployment's, overridden by the query."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import any_text
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.thresholds import query_options

DEFAULT = Thresholds(confidence=0.4, iou=0.6, max_detections=50, multi_label=True)


def test_a_query_without_parameters_is_the_deployments() -> None:
    assert query_options([], DEFAULT, 1000) is DEFAULT


def test_a_parameter_of_the_query_counts_and_the_rest_stays() -> None:
    options = query_options([("iou", "0.5"), ("multi_label", "0")], DEFAULT, 1000)
    assert options == Thresholds(confidence=0.4, iou=0.5, max_detections=50, multi_label=False)


def test_a_parameter_given_twice_is_refused() -> None:
    assert query_options([("confidence", "0.4")], DEFAULT, 1000).confidence == 0.4
    with pytest.raises(InvalidInput, match="'confidence' is given 2 times"):
        query_options([("confidence", "0.9"), ("iou", "0.5"), ("confidence", "0.1")], DEFAULT, 1000)


@pytest.mark.parametrize(
    ("own", "allowed", "most"),
    [(50, 1000, 1000), (50, 20, 50), (5000, 1000, 5000), (50, 9000, 9000)],
)
def test_a_query_may_not_ask_for_any_number_of_detections(
    own: int, allowed: int, most: int
) -> None:
    default = Thresholds(max_detections=own)
    found = query_options([("max_detections", str(most))], default, allowed)
    assert found.max_detections == most
    said = f"max_detections must be a whole number <= {most}"
    with pytest.raises(InvalidInput, match=said) as refusal:
        query_options([("max_detections", str(most + 1))], default, allowed)
    assert "limits.detections of the deployment" in refusal.value.hint


@given(st.lists(st.tuples(any_text.text(max_size=20), any_text.text(max_size=20)), max_size=4))
@example([("confidence", "nan")])
@example([("max_detections", "1e400")])
@example([("iou", "\u0660.\u0665")])
@settings(max_examples=200)
def test_any_query_gives_thresholds_in_range(
    query: list[tuple[str, str]],
) -> None:
    with contextlib.suppress(InvalidInput):
        options = query_options(query, DEFAULT, 1000)
        assert 0 <= options.confidence <= 1
        assert 0 <= options.iou <= 1
        assert 1 <= options.max_detections <= 1000


@given(st.sampled_from(["confidence", "iou", "max_detections", "multi_label"]), any_text.text())
@settings(max_examples=200)
def test_any_value_of_a_parameter(name: str, value: str) -> None:
    with contextlib.suppress(InvalidInput):
        options = query_options([(name, value)], DEFAULT, 1000)
        assert 0 <= options.confidence <= 1
        assert 1 <= options.max_detections <= 1000
