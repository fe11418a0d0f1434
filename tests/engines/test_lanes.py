"""Who gets which lane, and when: asserted on the lanes handed out, not on times."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.lane_requests import WIDE, ready, request

from seatrial.artifact import Artifact
from seatrial.engines.base import EngineConfig, Lane
from seatrial.engines.lanes import FAILURES, Held, Lanes
from seatrial.engines.null import NullEngine
from seatrial.engines.places import Abandoned, Place, Share
from seatrial.errors import DeadlineExceeded

PATIENCE_S = 20.0

pytestmark = pytest.mark.usefixtures("time_limit")


class Waiting(threading.Thread):
    """A request on a thread of its own, which holds its lane until it is let go."""

    def __init__(
        self,
        lanes: Lanes,
        order: list[object] | None = None,
        name: object = None,
        deadline_s: float = math.inf,
    ) -> None:
        super().__init__(daemon=True)
        self.lanes, self.order, self.mark = lanes, order, name
        self.has, self.let_go = threading.Event(), threading.Event()
        self.width = 0
        self.error: Exception | None = None
        self.place = ready(lanes, deadline_s)
        self.start()

    def run(self) -> None:
        with self.place:
            try:
                lane = self.lanes.acquire(self.place)
            except (Abandoned, DeadlineExceeded) as error:
                self.error = error
                return
            self.width = lane.threads
            if self.order is not None:
                self.order.append(self.mark)
            self.has.set()
            self.let_go.wait(PATIENCE_S)
            self.lanes.release(lane)

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
    places = [ready(lanes) for _ in range(3)]
    taken = [lanes.acquire(place) for place in places]
    assert [lane.threads for lane in taken] == [1, 1, 1]
    assert len({id(lane) for lane in taken}) == 3


def test_a_request_that_only_decodes_yet_is_company(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    with ready(lanes), request(lanes) as width:  # another one, still at its image
        assert width == 1
    with request(lanes) as width:
        assert width == 1  # others were here just now, and may be back at once
    with request(lanes) as width:
        assert width == WIDE


def test_callers_that_take_turns_are_served_side_by_side(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(2)
    with request(lanes) as width:
        assert width == WIDE
        other = Waiting(lanes)
        until(lambda: lanes.waiting == 1)
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
        until(lambda: lanes.waiting == 2)
        assert not any(other.has.is_set() for other in others)
    for other in others:
        assert other.started()
        assert other.width == 1
    for other in others:
        other.end()


def test_a_request_that_still_arrives_is_counted_and_is_no_company(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes()
    with Place(lanes) as arriving:
        assert lanes.present == 1
        with request(lanes) as width:
            assert (width, lanes.present) == (WIDE, 2)
        arriving.ready()
        with request(lanes) as width:
            assert width == 1
    assert lanes.present == 0


def test_to_be_ready_twice_is_to_be_ready(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    with ready(lanes) as place:
        place.ready()  # not company to itself
        assert lanes.acquire(place).threads == WIDE


def test_the_wide_lane_waits_for_the_last_narrow_one(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(2)
    first, second = ready(lanes), ready(lanes)
    with second:
        with first:
            running = lanes.acquire(first)
            assert running.threads == 1
        # alone by the count, and a narrow lane is still busy
        after = lanes.acquire(second)
        assert after.threads == 1
        lanes.release(running)
        lanes.release(after)
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
        until(lambda n=number: lanes.waiting == n)
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
        until(lambda: lanes.waiting == 1)
        second = Waiting(lanes)
        until(lambda: lanes.waiting == 2)
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
    assert len(lanes._idle) == 2
    assert not lanes._wide_busy


def test_a_place_is_counted_until_the_last_who_holds_it_lets_go(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes()
    place = Place(lanes)
    with place:
        with place:
            assert lanes.present == 1
        assert lanes.present == 1
    assert lanes.present == 0
    with pytest.raises(Abandoned), place:  # it cannot be taken up again
        pass
    place.ready()
    assert (lanes.present, len(lanes._ready)) == (0, 0)


def test_who_waits_for_a_lane_stops_at_the_deadline(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(1, wide=False)
    with request(lanes), ready(lanes, 0.02) as late:
        with pytest.raises(DeadlineExceeded, match=r"not answered within 0\.02 s"):
            lanes.acquire(late)
        assert not lanes.waiting
        assert late.lane is None
    with request(lanes) as width:
        assert width == 1


def test_past_the_deadline_a_free_lane_is_not_taken(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(1, wide=False)
    with ready(lanes, 0.0) as late:
        with pytest.raises(DeadlineExceeded):
            lanes.acquire(late)
        assert late.remaining_s() == 0
    assert len(lanes._idle) == 1


def test_a_lane_that_comes_after_the_deadline_goes_to_the_next(
    make_lanes: Callable[..., Lanes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane is granted before the waiting thread wakes; by then it is too late."""
    lanes = make_lanes(1, wide=False)
    order: list[object] = []
    first = Waiting(lanes, order, 0)
    assert first.started()
    late = Waiting(lanes, order, "late", deadline_s=1000)
    until(lambda: lanes.waiting == 1)
    second = Waiting(lanes, order, 1)
    until(lambda: lanes.waiting == 2)
    late.place._deadline = 0.0
    first.end()
    assert second.started()
    second.end()
    late.join(PATIENCE_S)
    assert isinstance(late.error, DeadlineExceeded)
    assert order == [0, 1]
    assert (lanes.present, len(lanes._idle)) == (0, 1)


def test_cancelled_while_it_waits_wakes_at_once(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes(1, wide=False)
    with request(lanes):
        leaver = Waiting(lanes)
        until(lambda: lanes.waiting == 1)
        leaver.place.cancel()
        leaver.join(PATIENCE_S)  # while the lane is still taken
        assert isinstance(leaver.error, Abandoned)
        assert not lanes.waiting
        assert lanes.present == 1
    assert len(lanes._idle) == 1


def test_cancelled_before_it_asks_gets_no_lane(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    with ready(lanes) as place:
        place.cancel()
        with pytest.raises(Abandoned):
            lanes.acquire(place)
    assert len(lanes._idle) == 2
    assert not lanes._wide_busy


def test_time_that_is_left(make_lanes: Callable[..., Lanes]) -> None:
    lanes = make_lanes()
    assert Place(lanes).remaining_s() == math.inf
    assert Place(lanes).patience_s() == -1  # a lock waits for ever
    assert 999 < Place(lanes, 1000).remaining_s() <= 1000
    assert 999 < Place(lanes, 1000).patience_s() <= 1000
    assert Place(lanes, 1e30).patience_s() == threading.TIMEOUT_MAX
    Place(lanes).check()
    Place(lanes, 1000).check()


@pytest.mark.parametrize("granted", [False, True])
def test_a_wait_that_is_broken_off_blocks_nobody(
    granted: bool, make_lanes: Callable[..., Lanes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = make_lanes(1, wide=False)
    held = lanes.acquire(ready(lanes))

    class Interrupted(BaseException):
        pass

    class Broken:
        """The place's lock; Ctrl-C comes before its turn or just as it is granted a lane."""

        def acquire(self, timeout: float = -1) -> None:
            if timeout == 20:  # the wait itself
                if granted:
                    lanes.release(held)
                raise Interrupted

        def locked(self) -> bool:
            return True

        def release(self) -> None:
            pass

    broken = ready(lanes)
    with monkeypatch.context() as patch:
        patch.setattr(Place, "patience_s", lambda self: 20)
        patch.setattr("seatrial.engines.lanes.threading.Lock", Broken)
        with pytest.raises(Interrupted):
            lanes.acquire(broken)
    if not granted:
        lanes.release(held)
    assert not lanes.waiting
    with request(lanes) as width:
        assert width == 1


def test_a_lane_that_is_held_too_long_is_taken_out_and_stays_out(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes(2, wide=False)
    busy: list[int] = []
    lanes.on_lane = busy.append
    slow, quick = ready(lanes), ready(lanes)
    held, other = lanes.acquire(slow), lanes.acquire(quick)
    assert lanes.overdue(6.0, 10.0) == []
    lanes.release(other)
    assert lanes.acquire(quick) is other  # its time counts anew
    (found,) = lanes.overdue(6.0, 10.0)
    assert (found.lane, found.places) == (held, [slow])
    assert lanes.usable == 1
    assert busy == [1, 1, -1, 1, -1]  # it computes no more, as far as anyone is told
    lanes.release(held)  # it came back, too late
    lanes.release(other)
    assert busy == [1, 1, -1, 1, -1, -1]
    assert lanes.acquire(ready(lanes)) is other
    late = Waiting(lanes)
    assert not late.has.wait(0.05)
    lanes.put_in(held)
    assert late.started()
    late.end()


def test_who_waits_for_the_wide_lane_goes_on_when_it_is_taken_out(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes(1, wide=True)
    place = ready(lanes)
    wide = lanes.acquire(place)
    assert wide.threads == WIDE
    waiting = Waiting(lanes)
    assert not waiting.has.wait(0.05)
    (found,) = lanes.overdue(11.0, 10.0)
    assert found.wide
    assert waiting.started()
    assert waiting.width == 1
    waiting.end()
    lanes.put_in(wide, wide=True)


def run(lanes: Lanes, *, failed: bool) -> Lane:
    """A request that runs its lane, and is gone."""
    with ready(lanes) as place:
        lane = lanes.acquire(place)
        assert lane is not None
        lanes.judge(lane, failed=failed)
        lanes.release(lane, ran=not failed)
    return lane


def test_a_lane_is_suspected_after_failures_without_a_success(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes(1, wide=False)
    suspects: list[Held] = []
    lanes.on_suspect = suspects.append
    for failed in [True] * (FAILURES - 1) + [False] + [True] * (FAILURES - 1):
        run(lanes, failed=failed)
    assert suspects == []
    lane = run(lanes, failed=True)
    assert [held.lane for held in suspects] == [lane]
    assert lanes.usable == 0
    lanes.put_in(lane)
    run(lanes, failed=True)  # it starts anew
    assert lanes.usable == 1


def test_a_request_that_is_given_up_is_counted_no_more_whoever_holds_it(
    make_lanes: Callable[..., Lanes],
) -> None:
    lanes = make_lanes(1, wide=False)
    changes: list[int] = []
    lanes.on_place = changes.append
    with ready(lanes) as place:
        place.fail(DeadlineExceeded("x"))
        assert lanes.present == 0
        with pytest.raises(Abandoned):
            place.check()
    assert changes == [1, -1]


def test_a_request_that_is_held_back_starts_in_time_though_runs_are_shorter_now(
    tiny_artifact: Artifact,
) -> None:
    """It was to start early, by the runs before: it may be held longer, and not until too late."""
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig(max_batch=4))
    lanes = Lanes(engine, max_batch=4, delay_s=60)
    lanes.mean_s = 1.9
    place, coming = ready(lanes, 4.0), ready(lanes)
    place.share = Share({})
    asking = threading.Timer(0.05, setattr, (lanes, "mean_s", 0.001))
    asking.start()
    with place, coming:
        lane = lanes.acquire(place)
        assert lane is not None
        lanes.release(lane)
    asking.join()


def test_a_request_that_is_held_back_starts_when_the_one_it_waits_for_leaves(
    tiny_artifact: Artifact,
) -> None:
    engine = NullEngine(Path("unused"), tiny_artifact.manifest, EngineConfig(max_batch=4))
    lanes = Lanes(engine, max_batch=4, delay_s=600)
    place, coming = ready(lanes), ready(lanes)
    place.share = Share({})
    runs: list[tuple[int, str]] = []
    lanes.on_batch = lambda size, reason, held_s: runs.append((size, reason))
    with place, coming:
        acquired: list[Lane | None] = []
        asking = threading.Thread(target=lambda: acquired.append(lanes.acquire(place)))
        asking.start()
        until(lambda: lanes.waiting == 1)
        assert runs == []
        coming.leave()  # its client has gone, before its image was decoded
        asking.join(PATIENCE_S)
        assert runs == [(1, "idle")]
        assert acquired == [engine.narrow[0]]
        lanes.release(engine.narrow[0])
