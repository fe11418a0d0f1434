from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import (
    LAWS_BY_RATE,
    Bursts,
    ClosedLoop,
    ConstantRate,
    Diurnal,
    Law,
    Poisson,
    Ramp,
    Steps,
)
from seatrial.load.window import Load

# Law -> expected requests until a time, by hand.
RANDOM = {
    "poisson": (Poisson(40.0), lambda t: 40 * t),
    "ramp": (Ramp(0.0, 80.0, 50.0), lambda t: 0.8 * t * t if t <= 50 else 2000 + 80 * (t - 50)),
    "falling": (Ramp(80.0, 20.0, 100.0), lambda t: 80 * t - 0.3 * t * t),
    "steps": (Steps((10.0, 90.0), 25.0), lambda t: 10 * t if t <= 25 else 250 + 90 * (t - 25)),
    "bursts": (
        Bursts(on_hz=80.0, off_hz=4.0, on_s=2.0, off_s=3.0),
        lambda t: t // 5 * 172 + 80 * min(t % 5, 2) + 4 * max(0.0, t % 5 - 2),
    ),
    "diurnal": (
        Diurnal(low_hz=10.0, high_hz=70.0, period_s=40.0),
        lambda t: 40 * t - 30 * 40 / (2 * math.pi) * math.sin(2 * math.pi * t / 40),
    ),
}
UNTIL_S = 100.0


def test_a_constant_rate_is_due_at_equal_distances_whatever_the_seed():
    for seed in (0, 7):
        due = ConstantRate(rate_hz=40.0).due_s(seed, 0.125)
        assert due.tolist() == [0.0, 0.025, 0.05, 0.075, 0.1]


@pytest.mark.parametrize("name", RANDOM)
def test_counts_follow_the_law_at_every_time(name):
    law, expected = RANDOM[name]
    counts = np.zeros(20)
    marks_s = np.arange(1, 21) * 5.0 - 0.5
    for seed in range(40):
        due = law.due_s(seed, UNTIL_S)
        assert np.all(np.diff(due) >= 0)
        assert due.min() >= 0
        assert due.max() < UNTIL_S
        counts += np.searchsorted(due, marks_s)
    wanted = 40 * np.array([expected(mark) for mark in marks_s])
    # Poisson counts of 40 schedules: five standard deviations.
    assert np.all(np.abs(counts - wanted) <= 5 * np.sqrt(wanted) + 1)


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_draws_the_same_times_and_a_longer_load_begins_like_a_shorter_one(name):
    law, _ = RANDOM[name]
    due = law.due_s(3, UNTIL_S)
    assert np.array_equal(due, law.due_s(3, UNTIL_S))
    assert not np.array_equal(due[:5], law.due_s(4, UNTIL_S)[:5])
    longer = law.due_s(3, 2 * UNTIL_S)
    assert len(longer) > len(due)
    assert longer[: len(due)] == pytest.approx(due, abs=1e-4)


def test_the_times_between_poisson_arrivals_are_exponential():
    due = Poisson(rate_hz=40.0).due_s(3, 500.0)
    gaps = 40 * np.diff(due)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1, abs=0.02)
    assert gaps.std() == pytest.approx(1, abs=0.03)
    assert np.median(gaps) == pytest.approx(math.log(2), abs=0.02)


@pytest.mark.parametrize("name", ["ramp", "steps", "bursts", "diurnal"])
def test_even_arrivals_have_the_law_without_chance(name):
    law, expected = RANDOM[name]
    even = msgspec.structs.replace(law, spacing="even")
    due = even.due_s(0, UNTIL_S)
    assert np.array_equal(due, even.due_s(9, UNTIL_S))
    assert [expected(at) for at in due] == pytest.approx(range(len(due)), abs=0.02)


def test_nothing_is_due_between_bursts_without_a_rate():
    due = Bursts(on_hz=30.0, on_s=1.0, off_s=2.0).due_s(1, 90.0)
    assert len(due) > 600
    assert np.all(due % 3 <= 1.0)
    even = Bursts(on_hz=10.0, on_s=1.0, off_s=2.0, spacing="even").due_s(0, 6.0)
    assert even == pytest.approx([*np.arange(10) / 10, *(3 + np.arange(10) / 10)], abs=1e-9)


def test_a_rate_of_nothing_is_no_request():
    assert Steps((0.0,), 5.0).due_s(0, 20.0).size == 0
    assert Steps((0.0, 5.0), 5.0, "even").due_s(0, 6.0) == pytest.approx([5, 5.2, 5.4, 5.6, 5.8])


def test_a_schedule_that_would_fill_the_memory_is_refused():
    with pytest.raises(InvalidConfig, match="the schedule would have 1e\\+10 requests"):
        Poisson(rate_hz=1e6).due_s(0, 1e4)


@pytest.mark.parametrize("on_s", [1e-9, 1e-3])
def test_short_bursts_take_no_more_memory_than_long_ones(on_s):
    """The edges of 180 s of them would fill terabytes."""
    even = Bursts(on_hz=10.0, on_s=on_s, off_s=on_s, spacing="even").due_s(0, 180.0)
    assert len(even) == pytest.approx(900, abs=1)
    assert np.diff(even) == pytest.approx(0.2, abs=2 * on_s + 1e-9)
    steps = Steps((4.0, 10.0), each_s=on_s, spacing="even").due_s(0, 180.0)
    assert len(steps) == pytest.approx(1800, abs=1)


@pytest.mark.parametrize(
    "told",
    [
        b'{"type": "bursts", "on_hz": 1, "on_s": 1e-9}',
        b'{"type": "bursts", "on_hz": 1, "off_s": 1e-9}',
        b'{"type": "steps", "rates_hz": [1], "each_s": 1e-9}',
        b'{"type": "diurnal", "low_hz": 1, "high_hz": 2, "period_s": 1e-9}',
    ],
)
def test_what_is_shorter_than_a_millisecond_is_no_length(told):
    with pytest.raises(msgspec.ValidationError, match=r"0\.001"):
        msgspec.json.decode(told, type=Law)


@pytest.mark.parametrize("period_s", [4.32, 10.0])
def test_short_days_keep_their_shape_in_a_long_load(period_s):
    """A day of them has 20,000 periods; half of the time at the low rate has 18 % of all."""
    due = Diurnal(0.0, 20.0, period_s).due_s(0, 86_400.0)
    phase = (due / period_s + 0.25) % 1
    low = np.count_nonzero(phase < 0.5) / len(due)
    assert low == pytest.approx(0.5 - 1 / math.pi, abs=0.002)
    assert len(due) == pytest.approx(864_000, rel=0.01)


def test_a_short_ramp_keeps_its_shape_in_a_long_load():
    short, long = (Ramp(0.0, 200.0, 2.0, "even").due_s(0, until_s) for until_s in (2.0, 50_000.0))
    assert long[: len(short)] == pytest.approx(short, abs=1e-6)


@pytest.mark.parametrize("name", LAWS_BY_RATE)
def test_laws_by_their_rate_have_it_as_their_mean(name):
    law = LAWS_BY_RATE[name](50.0)
    assert len(law.due_s(5, 400.0)) == pytest.approx(20_000, rel=0.03)


def test_laws_are_data():
    told = b'{"type": "bursts", "on_hz": 20, "off_s": 4}'
    assert msgspec.json.decode(told, type=Law) == Bursts(on_hz=20.0, off_s=4.0)
    for law, _ in RANDOM.values():
        assert msgspec.json.decode(msgspec.json.encode(law), type=Law) == law
    for wrong in (b'{"type": "poisson", "rate_hz": 0}', b'{"type": "ramp", "form_hz": 1}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=Law)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (ConstantRate(2.0), "constant, 2/s"),
        (Poisson(12.345), "Poisson, 12.35/s"),
        (Ramp(0.0, 8.0, 5.0), "ramp, 0 to 8/s in 5 s"),
        (Steps((1.0, 2.0), 3.0), "steps, 1, 2/s for 3 s each"),
        (Bursts(4.0), "bursts, 4/s for 1 s, 0/s for 1 s"),
        (Diurnal(1.0, 9.0, 60.0), "diurnal, 1 to 9/s in 60 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_law_says_its_rates(law, words):
    assert law.words() == words


def test_a_load_knows_its_loop_and_how_many_requests_it_keeps_under_way():
    closed = Load(arrivals=ClosedLoop(sessions=3, images_per_query=4), measure_s=1.0)
    assert (closed.loop, closed.sessions, closed.in_flight) == ("closed", 3, 12)
    assert ClosedLoop(sessions=3).think_time_s == 0  # the next request follows at once
    paced = Load(arrivals=ConstantRate(rate_hz=10.0), measure_s=1.0)
    assert (paced.loop, paced.sessions, paced.in_flight) == ("open", 0, 0)
