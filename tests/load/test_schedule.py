from __future__ import annotations

from itertools import islice

import numpy as np

from seatrial.load.arrivals import ConstantRate, Poisson
from seatrial.load.schedule import draw_schedule, image_order, to_ns


def draw(law, until_s=10.0, images=7, schedule_seed=0, image_seed=0):
    return draw_schedule(law, until_s, images, schedule_seed=schedule_seed, image_seed=image_seed)


def test_times_and_images_have_a_seed_each():
    law = Poisson(rate_hz=20.0)
    plain = draw(law)
    assert len(plain.due_s) == len(plain.images)
    same_times = draw(law, image_seed=1)
    assert np.array_equal(plain.due_s, same_times.due_s)
    assert not np.array_equal(plain.images, same_times.images)
    other_times = draw(law, schedule_seed=1)
    assert not np.array_equal(plain.due_s[:5], other_times.due_s[:5])
    shared = min(len(plain.images), len(other_times.images))
    assert np.array_equal(plain.images[:shared], other_times.images[:shared])


def test_each_pass_sends_every_image_once_in_another_order():
    images = draw(ConstantRate(rate_hz=7.0), until_s=3.0).images
    passes = images.reshape(3, 7)
    assert [sorted(one) for one in passes.tolist()] == [list(range(7))] * 3
    assert len({tuple(one) for one in passes.tolist()}) > 1


def test_sessions_are_not_in_step():
    orders = [tuple(islice(image_order(20, 3, session), 20)) for session in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))


def test_a_law_that_knows_its_images_says_them():
    class Logged(ConstantRate, frozen=True):
        images = (3, 1, 2, 5, 5, 5)

    found = draw(Logged(rate_hz=2.0), until_s=2.0)
    assert found.images.tolist() == [3, 1, 2, 5]


def test_times_are_rounded_alike_alone_and_together():
    times_s = draw(Poisson(rate_hz=900.0)).due_s
    assert to_ns(times_s).tolist() == [int(to_ns(float(one))) for one in times_s]
    assert np.abs(to_ns(times_s) - times_s * 1e9).max() <= 0.5
