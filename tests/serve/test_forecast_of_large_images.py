"""Images that take far more than their bytes say, beside others, in a simulated service."""

from __future__ import annotations

import pytest
from tests.support.simulated_images import LARGE, PHOTO, Image, SharedCores, in_a_loop
from tests.support.simulated_service import poisson

from seatrial.serve.forecast import Forecast, Took

SECONDS = 24.0
SLOW = Image(LARGE.body_bytes, 0.5, LARGE.bound_s)  # four of them at a time are late


def ask_at(service: SharedCores, rate_hz: float) -> None:
    for at in poisson(rate_hz, SECONDS):
        service.after(at, lambda: service.ask(PHOTO))


@pytest.mark.parametrize("image", [LARGE, SLOW], ids=["quick", "slow"])
@pytest.mark.parametrize(("rate_hz", "share"), [(8.0, 0.8), (20.0, 0.6)])
def test_photos_have_most_of_the_cores_beside_images_of_25_megapixels(
    image: Image, rate_hz: float, share: float
) -> None:
    """Eight clients send such images as fast as they are answered.

    Where large images do not give way, 6 % of the photos are answered at most.
    """
    service = SharedCores()
    in_a_loop(service, image, 8, 0.01)
    ask_at(service, rate_hz)
    service.run(SECONDS)
    photos, large = service.counts(PHOTO), service.counts(image)
    assert photos[200] >= share * photos.total()
    assert photos[504] == 0
    assert large[504] <= 4  # the first, of which nothing was known


@pytest.mark.parametrize(("image", "work_s"), [(LARGE, 0.305), (SLOW, 0.545)])
def test_images_of_25_megapixels_have_the_cores_where_there_are_no_others(
    image: Image, work_s: float
) -> None:
    service = SharedCores()
    in_a_loop(service, image, 8, 0.01)
    service.run(SECONDS)
    assert service.idle_s <= 0.05 * SECONDS * 2
    assert service.counts(image)[200] >= 0.8 * SECONDS * 2 / work_s


def test_large_images_have_the_cores_again_when_the_others_have_gone() -> None:
    service = SharedCores()
    in_a_loop(service, SLOW, 8, 0.01)
    ask_at(service, 8.0)
    service.run(SECONDS + 6.0)
    service.idle_s = 0.0
    service.run(2 * SECONDS + 6.0)
    assert service.idle_s <= 0.05 * SECONDS * 2


def test_a_low_rate_is_forgotten_where_requests_are_let_in_one_at_a_time() -> None:
    now = [0.0]
    forecast = Forecast(2, 0.05, lambda: now[0])
    late = [forecast.promise(1000) for _ in range(4)]
    for promise in late:
        forecast.accept(promise)
        forecast.arrived(promise)
    now[0] = 3.0
    for promise in late:
        forecast.ended(promise)
    assert forecast.rate == pytest.approx(0.5)
    for _ in range(80):
        one = forecast.promise(1000)
        forecast.accept(one)
        forecast.arrived(one)
        now[0] += 0.1
        forecast.ended(one, 0.05)
    assert forecast.rate > 1.8


def test_a_high_rate_is_kept_where_lanes_have_no_work() -> None:
    now = [0.0]
    forecast = Forecast(2, 0.05, lambda: now[0])
    forecast._done_s *= 1.5
    now[0] = 60.0
    forecast.promise(1000)
    assert forecast.rate == pytest.approx(3.0)


@pytest.mark.parametrize("decoded_s", [0.0, 0.6])
def test_what_was_decoded_too_late_is_work_and_says_how_long_decoding_takes(
    decoded_s: float,
) -> None:
    now = [0.0]
    forecast = Forecast(2, 0.05, lambda: now[0])
    promises = [forecast.promise(1000) for _ in range(4)]
    for promise in promises:
        forecast.accept(promise)
        forecast.arrived(promise)
        forecast.weighed(promise, 0.8)
    now[0] = 1.2
    for promise in promises:
        decoded = Took(decoded_s, decoded_s, decoded_s, 0.8) if decoded_s else None
        forecast.ended(promise, None, decoded)
    assert (forecast.rate > 1.0) == bool(decoded_s)
    assert forecast.pace == pytest.approx(0.75 if decoded_s else 0.5, rel=0.01)
