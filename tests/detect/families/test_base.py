"""The contract of families, kept by each of the table."""

from __future__ import annotations

import pytest

from seatrial.detect.families.registry import FAMILIES, family_class
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_says_what_it_accepts(name: str) -> None:
    family = family_class(name)
    assert family.accepts
    assert isinstance(family.unordered, tuple)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_no_family_is_not_recognised(name: str) -> None:
    graph = GraphSignature(
        (TensorSpec("x", "float32", (1, 3, 64, 64)),), (TensorSpec("y", "float32", (1, 10)),), {}
    )
    assert family_class(name).recognise(graph) is None
