"""Places on threads: who is next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from seatrial.serve.turns import Turns


def on_a_loop(work: Callable[[Turns], None], places: int = 1) -> None:
    async def run() -> None:
        work(Turns(places))

    asyncio.run(run())


def test_a_free_place_is_taken_at_once() -> None:
    def work(turns: Turns) -> None:
        assert turns.take(batch=False) is None
        assert turns.take(batch=True) is None  # each kind has its own
        assert turns.waiting == 0
        assert turns.take(batch=False) is not None
        assert turns.waiting == 1

    on_a_loop(work)


def test_a_batch_starts_while_no_live_one_waits() -> None:
    def work(turns: Turns) -> None:
        turns.take(batch=False)
        live = turns.take(batch=False)
        batch = turns.take(batch=True)
        assert live is not None
        assert batch is not None  # its place is free, and it is not its turn
        turns.give_back(batch=False)
        assert live.done()
        assert batch.done()

    on_a_loop(work)


def test_who_left_the_queue_gets_nothing() -> None:
    def work(turns: Turns) -> None:
        turns.take(batch=False)
        first, second = turns.take(batch=False), turns.take(batch=False)
        assert first is not None
        assert second is not None
        first.cancel()
        turns.give_back(batch=False)
        assert second.done()
        assert not second.cancelled()
        turns.give_back(batch=False)
        assert turns.take(batch=False) is None

    on_a_loop(work)


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["take", "end", "leave"]), st.booleans(), st.integers(0, 5)),
        max_size=60,
    ),
)
def test_no_more_hold_places_than_there_are_and_none_waits_beside_a_free_one(
    places: int, steps: list[tuple[str, bool, int]]
) -> None:
    def work(turns: Turns) -> None:
        held = {False: 0, True: 0}
        waiting: list[tuple[bool, asyncio.Future[None]]] = []
        for what, batch, which in steps:
            if what == "take":
                turn = turns.take(batch=batch)
                if turn is None:
                    held[batch] += 1
                else:
                    waiting.append((batch, turn))
            elif what == "end" and held[batch]:
                held[batch] -= 1
                turns.give_back(batch=batch)
            elif what == "leave" and waiting:
                waiting.pop(which % len(waiting))[1].cancel()
            for kind, turn in [*waiting]:
                if turn.done():
                    waiting.remove((kind, turn))
                    held[kind] += 1
            assert max(held.values()) <= places
            live = [turn for kind, turn in waiting if not kind]
            assert not live or held[False] == places

    on_a_loop(work, places)
