"""How far raw outputs are apart, with rows in a fixed order and without."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.export.output_errors import output_errors


def test_rows_without_order_are_compared_with_the_nearest() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 9, 5)).astype(np.float32)
    order = np.random.default_rng(1).permutation(9)
    parent = {"logits": rows[..., :2], "boxes": rows[..., 2:]}
    child = {name: value[:, order] for name, value in parent.items()}
    (loose,) = output_errors([parent], [child], ordered=False, limit=1e-6)
    assert (loose.name, loose.within, loose.worst) == ("logits+boxes", 1.0, 0.0)
    strict = output_errors([parent], [child], ordered=True, limit=1e-6)
    assert {one.name for one in strict} == {"logits", "boxes"}
    assert all(one.within < 1 for one in strict)


def test_a_row_that_stands_for_two_is_not_agreement() -> None:
    parent = {"rows": np.array([[[1.0], [1.0], [2.0]]], np.float32)}
    child = {"rows": np.array([[[1.0], [5.0], [2.0]]], np.float32)}
    (found,) = output_errors([parent], [child], ordered=False, limit=1e-3)
    assert found.within == pytest.approx(2 / 3)


def test_values_with_an_order_are_compared_place_by_place() -> None:
    parent = [{"a": np.array([[1.0, 2.0]], np.float32)}, {"a": np.array([[4.0, 8.0]], np.float32)}]
    child = [{"a": np.array([[1.0, 2.0]], np.float32)}, {"a": np.array([[4.5, 8.1]], np.float32)}]
    (found,) = output_errors(parent, child, ordered=True, limit=0.05)  # 0.4 where values reach 8
    assert (found.name, found.scale, found.ordered) == ("a", 8, True)
    assert found.worst == pytest.approx(0.5)
    assert found.mean == pytest.approx(0.15)
    assert found.within == 0.75
    small = [{"a": np.array([[0.0, 0.1]], np.float32)}]
    off = [{"a": np.array([[0.04, 0.1]], np.float32)}]
    (found,) = output_errors(small, off, ordered=True, limit=0.05)  # a share of 1 at least
    assert found.within == 1


def test_rows_are_compared_column_by_column_in_its_own_unit() -> None:
    parent = {"rows": np.array([[[0.9, 600.0], [0.1, 300.0]]], np.float32)}
    child = {"rows": np.array([[[0.1, 301.0], [0.8, 600.0]]], np.float32)}
    (found,) = output_errors([parent], [child], ordered=False, limit=0.01)
    assert (found.scale, found.ordered) == (600, False)
    assert found.within == 0.5  # 1 pixel of 600 is within, 0.1 of a confidence is not
    assert found.worst == pytest.approx(0.1)
    assert found.mean == pytest.approx((0.1 + 1 / 600) / 2)
