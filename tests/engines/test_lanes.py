"""Who gets which lane, and when: asserted on the lanes handed out, not on times."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.artifact import Artifact
from seatrial.engines.base import EngineConfig
from seatrial.engines.lanes import Lanes
from seatrial.engines.null import NullEngine

WIDE = 4
PATIENCE_S = 20.0

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def make_lanes(tiny_artifact: Artifact) -> Callable[..., Lanes]:
    def make(narrow: int = 2, *, wide: bool = True) -> Lanes:
        config = EngineConfig(instances=narrow, threads=1, wide_threads=WIDE if wide else 0)
        return Lanes(NullEngine(Path("unused"), tiny_artifact.manifest, config))

    return make


@contextlib.contextmanager
def request(lanes: Lanes) -> Iterator[int]:
    """A request as the detector makes one; gives the threads of its lane."""
    lanes.arrive()
    try:
        with lanes.lane() as lane:
            yield lane.threads
    finally:
        lanes.leave()


class Waiting(threading.Thread):
    """A request on a thread of its own, which holds its lane until it is let go."""

    def __init__(
        self, lanes: Lanes, order: list[object] | None = None, name: object = None
    ) -> None:
        super().__init__(daemon=True)
        self.lanes, self.order, self.mark = lanes, order, name
        self.has, self.let_go = threading.Event(), threading.Event()
        self.width = 0
        self.start()

    def run(self) -> None:
        with request(self.lanes) as self.width:
            if self.order is not None:
                self.order.append(self.mark)
            self.has.set()
            self.let_go.wait(PATIENCE_S)

    def started(self) -> bool:
        return self.has.wait(PATIENCE_S)

    def end(self) -> None:
        self.let_go.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_alone_takes_the_wide_lane(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    for _ in range(3):
        with request(lanes) as width:
            assert width == WIDE
    assert lanes.present == 0


def test_without_a_wide_lane_alone_takes_a_narrow_one(make_lanes: Callable[..., Lanes]) -> None:
    with request(make_lanes(wide=False)) as width:
        assert width == 1


def test_in_company_narrow_lanes_run_side_by_side(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(3)
    for _ in range(3):
        lanes.arrive()
    with lanes.lane() as a, lanes.lane() as b, lanes.lane() as c:
        assert [a.threads, b.threads, c.threads] == [1, 1, 1]
        assert len({id(a), id(b), id(c)}) == 3


def test_a_request_that_only_decodes_yet_is_company(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    lanes.arrive()  # another one, still at its picture
    with request(lanes) as width:
        assert width == 1
    lanes.leave()
    with request(lanes) as width:
        assert width == 1  # others were here just now, and may be back at once
    with request(lanes) as width:
        assert width == WIDE


def test_callers_that_take_turns_are_served_side_by_side(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(2)
    with request(lanes) as width:
        assert width == WIDE
        other = Waiting(lanes)
        until(lambda: len(lanes._waiting) == 1)
    assert other.started()
    assert other.width == 1
    with request(lanes) as width:  # the first caller again: beside the other, not after it
        assert width == 1
    other.end()


def test_nothing_starts_while_the_wide_lane_runs(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    with request(lanes) as width:
        assert width == WIDE
        others = [Waiting(lanes), Waiting(lanes)]
        until(lambda: lanes.present == 3)
        until(lambda: len(lanes._waiting) == 2)
        assert not any(other.has.is_set() for other in others)
    for other in others:
        assert other.started()
        assert other.width == 1
    for other in others:
        other.end()


def test_the_wide_lane_waits_for_the_last_narrow_one(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(2)
    lanes.arrive()
    lanes.arrive()
    with lanes.lane() as running:
        assert running.threads == 1
        lanes.leave()  # alone by the count, and a narrow lane is still busy
        with lanes.lane() as second:
            assert second.threads == 1
    lanes.leave()
    with request(lanes) as width:
        assert width == 1  # the busy period before had company
    with request(lanes) as width:
        assert width == WIDE


def test_requests_start_in_the_order_in_which_they_asked(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(1, wide=False)
    order: list[object] = []
    first = Waiting(lanes, order, 0)
    assert first.started()
    queue = []
    for number in range(1, 9):
        queue.append(Waiting(lanes, order, number))
        until(lambda n=number: len(lanes._waiting) == n)
    for held in [first, *queue]:
        assert held.started()
        held.end()
    assert order == list(range(9))


def test_all_free_lanes_are_granted_when_the_wide_one_ends(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes(2)
    with request(lanes):
        first = Waiting(lanes)
        until(lambda: len(lanes._waiting) == 1)
        second = Waiting(lanes)
        until(lambda: len(lanes._waiting) == 2)
    assert first.started()
    assert second.started()  # beside the first, not after it
    first.end()
    second.end()


def test_an_exception_gives_the_lane_back(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(2)
    for _ in range(5):
        with pytest.raises(RuntimeError), request(lanes):
            raise RuntimeError
    assert lanes.present == 0
    lanes.arrive()
    lanes.arrive()
    for _ in range(5):
        with pytest.raises(RuntimeError), lanes.lane():
            raise RuntimeError
    with lanes.lane(), lanes.lane():  # both narrow lanes are there still
        pass
    assert not lanes._waiting


@pytest.mark.parametrize("granted", [False, True])
def test_a_ticket_whose_wait_is_broken_off_blocks_nobody(
    granted: bool, make_lanes: Callable[..., Lanes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = make_lanes(1, wide=False)
    held = lanes._obtain()

    class Interrupted(BaseException):
        pass

    class Broken:
        """The ticket's lock; Ctrl-C comes before its turn or just as it is granted a lane."""

        def acquire(self) -> None:
            if granted:
                lanes._give_back(held)
            raise Interrupted

        def release(self) -> None:
            pass

    class Ticket:
        lane = None
        granted = Broken()

    with monkeypatch.context() as patch:
        patch.setattr("seatrial.engines.lanes._Ticket", Ticket)
        with pytest.raises(Interrupted), lanes.lane():
            pass
    if not granted:
        lanes._give_back(held)
    assert not lanes._waiting
    with lanes.lane() as lane:
        assert lane.threads == 1


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

    threads = [threading.Thread(target=work, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "deadlock"
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

    threads = [threading.Thread(target=work, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "deadlock"
    assert floor.broken == []
    assert len(floor.widths) == 3200
    assert lanes.present == 0
