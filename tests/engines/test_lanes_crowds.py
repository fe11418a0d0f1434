"""Many requests at once on the lanes: the rule holds, and each comes to its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.lane_requests import WIDE, request

from seatrial.artifact import Artifact
from seatrial.engines.base import EngineConfig
from seatrial.engines.lanes import Lanes
from seatrial.engines.null import NullEngine

PATIENCE_S = 20.0

pytestmark = pytest.mark.usefixtures("time_limit")


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "deadlock"


class Floor:
    """Counts what runs at any time and holds the rule against it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: list[int] = []
        self.broken: list[str] = []
        self.widths: list[int] = []

    @contextlib.contextmanager
    def enter(self, width: int, narrow: int) -> Iterator[None]:
        with self.lock:
            if self.running and (width == WIDE or WIDE in self.running):
                self.broken.append(f"{width} beside {self.running}")
            if len(self.running) >= narrow:
                self.broken.append(f"{len(self.running) + 1} at a time")
            self.running.append(width)
            self.widths.append(width)
        try:
            yield
        finally:
            with self.lock:
                self.running.remove(width)


@given(
    narrow=st.integers(1, 4),
    wide=st.booleans(),
    plans=st.lists(
        st.lists(st.tuples(st.sampled_from([0, 0, 0.0005]), st.booleans()), max_size=8),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=40)
def test_any_mix_of_requests_keeps_the_rule_and_comes_to_an_end(
    tiny_artifact: Artifact,
    narrow: int,
    wide: bool,
    plans: list[list[tuple[float, bool]]],
) -> None:
    config = EngineConfig(instances=narrow, threads=1, wide_threads=WIDE if wide else 0)
    lanes = Lanes(NullEngine(Path("unused"), tiny_artifact.manifest, config))
    floor = Floor()

    def work(plan: list[tuple[float, bool]]) -> None:
        for hold_s, fails in plan:
            with (
                contextlib.suppress(ZeroDivisionError),
                request(lanes) as width,
                floor.enter(width, narrow),
            ):
                time.sleep(hold_s)
                if fails:
                    raise ZeroDivisionError

    run_all([threading.Thread(target=work, args=(plan,), daemon=True) for plan in plans])
    assert floor.broken == []
    assert len(floor.widths) == sum(map(len, plans))
    assert lanes.present == 0
    assert len(lanes._idle) == narrow
    assert not lanes._wide_busy
    if plans[1:] == [] and wide:  # one client alone
        assert set(floor.widths) <= {WIDE}


def test_many_requests_at_once(make_lanes: Callable[..., Lanes]) -> None:
    lanes, floor = make_lanes(3), Floor()
    start = threading.Barrier(16)

    def work() -> None:
        start.wait(PATIENCE_S)
        for _ in range(200):
            with request(lanes) as width, floor.enter(width, 3):
                pass

    run_all([threading.Thread(target=work, daemon=True) for _ in range(16)])
    assert floor.broken == []
    assert len(floor.widths) == 3200
    assert lanes.present == 0
