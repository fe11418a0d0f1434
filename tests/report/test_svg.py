from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from seatrial.report.svg import Frame, ceiling, element, ticks


@given(st.floats(1e-3, 1e6))
def test_ticks_are_few_even_and_reach_the_top(highest):
    found = ticks(highest)
    assert 2 <= len(found) <= 7
    assert found[0] == 0
    assert found[-1] <= highest * 1.0001
    steps = {round((after - before) / found[1], 6) for before, after in itertools.pairwise(found)}
    assert steps == {1.0}
    assert highest * 0.999 <= ceiling(highest) <= highest * 2


def test_values_and_children_are_escaped():
    inner = element("title", "<b>")
    assert element("g", inner, class_='"x"', stroke_width=1.25, id=None) == (
        '<g class="&#34;x&#34;" stroke-width="1.2"><title>&lt;b&gt;</title></g>'
    )


def test_frame_puts_larger_values_higher_and_further_right():
    for log in (False, True):
        frame = Frame((1.0, 64.0), 100.0, log_x=log)
        assert frame.x(1.0) == frame.left
        assert frame.x(64.0) == frame.width - frame.right
        assert frame.y(0.0) == frame.floor
        assert frame.y(100.0) == frame.top
    assert frame.x(8.0) == (frame.x(1.0) + frame.x(64.0)) / 2
