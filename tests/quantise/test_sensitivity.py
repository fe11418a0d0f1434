"""Which layer costs most in INT8: measured with that layer alone rounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from seatrial.quantise.backend import Backend
from seatrial.quantise.calibration_images import CalibrationImages
from seatrial.quantise.sensitivity import IMAGES, rank
from seatrial.quantise.workspace import Workspace

# What each layer adds to the values at the head when it is rounded.
COSTS = {"a": 0.1, "b": 0.4, "c": 0.2}


class Layers:
    """A backend whose graphs are lists of the layers that are float."""

    def layers(self, folder: Path, work: Workspace) -> tuple[str, ...]:
        return tuple(COSTS)

    def restore(self, folder: Path, layers: Sequence[str], target: Path, work: Workspace) -> None:
        (target / "float.json").write_text(json.dumps(list(layers)))

    def probe(self, folder: Path | None, work: Workspace) -> Callable[[Any], list[Any]]:
        exact = [*COSTS] if folder is None else json.loads((folder / "float.json").read_text())
        off = sum(cost for name, cost in COSTS.items() if name not in exact)
        values = np.array([0.0, 2.0])  # of variance 1
        return lambda feeds: [values * feeds["scale"] + off * feeds["scale"]]


class Images:
    """As many images as are asked for, each of another scale."""

    def feeds(self, limit: int | None = None) -> list[dict[str, float]]:
        assert limit == IMAGES
        return [{"scale": 1.0}, {"scale": 2.0}]


def test_the_most_costly_layer_comes_first(tmp_path: Path) -> None:
    quantised = tmp_path / "graph"
    quantised.mkdir()
    (quantised / "float.json").write_text("[]")
    work = Workspace(tmp_path)
    told: list[tuple[object, ...]] = []

    def ranked() -> list[tuple[str, float]]:
        found = rank(
            cast(Backend, Layers()),
            quantised,
            cast(CalibrationImages, Images()),
            work,
            lambda *step: told.append(step),
        )
        return [(one.layer, one.error) for one in found]

    # Squared errors over the variance, as shares of the error of all together (0.7 ** 2).
    wanted = [(name, COSTS[name] ** 2 / 0.49) for name in ("b", "c", "a")]
    found = ranked()
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert [error for _, error in found] == pytest.approx([error for _, error in wanted])
    assert told == [("measuring what each layer costs", n, 3) for n in (1, 2, 3)]
    (quantised / "float.json").unlink()
    (tmp_path / "error-2.json").write_text("0.0")  # results are kept, layer by layer
    (quantised / "float.json").write_text("[]")
    assert dict(ranked())["b"] == 0
    assert not [*tmp_path.glob(".part-*")]
