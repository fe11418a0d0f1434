"""Charts of a run: what is drawn, and when there is nothing to draw."""

from __future__ import annotations

import re

from seatrial.train.journal import Epoch, StepRecord
from seatrial.train.loss_curves import POINTS, loss_curve, map_curve


def steps(count: int) -> list[StepRecord]:
    return [StepRecord(n, 1 + (n - 1) // 10, 5.0 / n, 1e-4) for n in range(1, count + 1)]


def epochs(count: int) -> list[Epoch]:
    return [Epoch(n, 10 * n, 2.0 / n, n / 10, n / 8, n / 9, 1.0, 1.0) for n in range(1, count + 1)]


def polylines(chart: object) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'points="([^"]+)"', str(chart))
    return [
        [(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in lines
    ]


def test_a_long_run_is_drawn_with_few_points_and_a_mark_for_each_epoch() -> None:
    chart = loss_curve(steps(1000), epochs(3))
    (line, means) = polylines(chart)
    assert POINTS // 2 < len(line) <= POINTS
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert line[0][1] < line[-1][1]  # a loss that falls ends lower: y grows downwards
    assert len(means) == 3
    assert "epoch 2: loss 1" in str(chart)


def test_there_is_no_curve_of_one_step_or_no_epoch() -> None:
    assert loss_curve(steps(1), []) is None
    assert loss_curve(steps(2), []) is not None
    assert map_curve([], 1) is None


def test_both_map_curves_name_their_epochs() -> None:
    chart = str(map_curve(epochs(4), best=3))
    assert len(polylines(chart)) == 2
    assert "epoch 4: mAP50 0.5000" in chart
    assert "epoch 4: mAP 0.4000" in chart
    assert "kept" in chart
    assert map_curve(epochs(1), best=1) is not None
