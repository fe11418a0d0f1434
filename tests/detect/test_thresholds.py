"""The thresholds of one call: the deployment's, overridden by options in text."""

from __future__ import annotations

import pytest

from seatrial.deployment import Thresholds
from seatrial.detect.thresholds import threshold_options
from seatrial.errors import InvalidInput

DEFAULT = Thresholds(confidence=0.4, iou=0.6, max_detections=50, multi_label=True)


def test_nothing_given_is_the_deployments() -> None:
    assert threshold_options({}, DEFAULT) is DEFAULT


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"confidence": "0.5"}, "confidence", 0.5),
        ({"confidence": "0"}, "confidence", 0.0),
        # As people write numbers, and JSON does not; a query has a blank for its "+".
        ({"confidence": ".5"}, "confidence", 0.5),
        ({"confidence": "1."}, "confidence", 1.0),
        ({"iou": "+0.5"}, "iou", 0.5),
        ({"iou": " 5.e-1"}, "iou", 0.5),
        ({"iou": "1"}, "iou", 1.0),
        ({"max_detections": "7"}, "max_detections", 7),
        ({"multi_label": "false"}, "multi_label", False),
        ({"multi_label": "0"}, "multi_label", False),
    ],
)
def test_what_is_given_counts_and_the_rest_stays(
    given: dict[str, str], field: str, value: object
) -> None:
    options = threshold_options(given, DEFAULT)
    assert getattr(options, field) == value
    others = set(Thresholds.__struct_fields__) - {field}
    assert all(getattr(options, name) == getattr(DEFAULT, name) for name in others)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"confidence": "1.1"}, "parameters: confidence must be a number <= 1.0"),
        ({"confidence": "nan"}, "confidence"),
        ({"confidence": "inf"}, "parameters: confidence must be a number <= 1.0"),
        ({"confidence": "1e999"}, "confidence"),
        ({"confidence": "-.5"}, "parameters: confidence must be a number >= 0.0"),
        ({"confidence": "."}, "parameters: confidence must be a number, not text"),
        ({"confidence": "0_5"}, "parameters: confidence must be a number, not text"),
        ({"confidence": "." + "5" * 5000}, "confidence"),
        ({"confidence": ""}, "confidence"),
        ({"max_detections": "0"}, ">= 1"),
        ({"max_detections": "many"}, "max_detections"),
        ({"max_detections": "9" * 5000}, "parameters: max_detections"),
        ({"multi_label": "perhaps"}, "multi_label"),
    ],
)
def test_what_is_not_understood_names_what_is(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        threshold_options(given, DEFAULT)
    assert said in refusal.value.message
    assert refusal.value.hint == "known parameters: confidence, iou, max_detections, multi_label"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("confidance", "did you mean 'confidence'?"),
        ("conf", "did you mean 'confidence'?"),
        ("content_type", "known parameters: confidence, iou, max_detections, multi_label"),
        ("zzz", "known parameters: confidence, iou, max_detections, multi_label"),
        ("", "known parameters: confidence, iou, max_detections, multi_label"),
        ("z" * 3000, "known parameters: confidence, iou, max_detections, multi_label"),
    ],
)
def test_a_parameter_that_is_unknown_is_named_in_brief(name: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        threshold_options({name: "0.5"}, DEFAULT)
    assert refusal.value.message == f"parameters: {name[:40]!r} is not known"
    assert refusal.value.hint == hint
