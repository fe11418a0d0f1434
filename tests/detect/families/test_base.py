"""The contract of families, kept by each of the table."""

from __future__ import annotations

import pytest

from seatrial.detect.families.registry import FAMILIES, family_class, possible
from seatrial.errors import UnknownFamily
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec

UNKNOWN = GraphSignature(
    (TensorSpec("x", "float32", (1, 3, 64, 64)),), (TensorSpec("y", "float32", (1, 10)),), {}
)


def test_a_file_of_no_family_is_refused_with_what_each_accepts() -> None:
    with pytest.raises(UnknownFamily) as refusal:
        possible(UNKNOWN, origin="file.onnx")[0]
    for name in FAMILIES:
        accepts = family_class(name).accepts
        assert accepts.startswith(("an ", "a ")), name
        assert f"{name}: {accepts}" in (refusal.value.hint or "")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_no_family_is_not_recognised(name: str) -> None:
    assert family_class(name).recognise(UNKNOWN) is None


def test_layouts_whose_rows_have_no_fixed_order() -> None:
    """Rows that a graph sorts or picks by score change places: an export compares them as a set."""
    assert {name: set(family_class(name).unordered) for name in FAMILIES} == {
        "yolo": {"end_to_end", "numbered_rows"},
        "detr": {"sigmoid", "native", "scored", "ranked"},
        "ssd": set(),
        "yolox": set(),
    }
