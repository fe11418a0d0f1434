"""Several images of one request: side by side, and in turn with others."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from open_inference import detected, error_of, images_body, post, rows, tensors
from seatrial.deployment import Limits
from seatrial.detect.png import png_cost
from seatrial.serve.forecast import Forecast

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_several_images_keep_their_order(
    running: Running, files: list[bytes], until: Callable[[Callable[[], Any]], Any]
) -> None:
    found = tensors(post(running, images_body(*files, *files)))
    wanted = [detected(running, file) for file in files] * 2
    assert found["counts"].tolist() == [len(one) for one in wanted] == [2, 0, 1, 1] * 2
    assert rows(found) == [row for one in wanted for row in one]
    until(lambda: running.detector.lanes.present == 0)  # the answers come first
    assert sum(running.app.state.serving.live.dispatcher.forecast._backlog_s) == pytest.approx(0)
    assert running.app.state.serving.live.dispatcher.forecast._ready == 0


def test_many_images_leave_room_for_others(
    run_app: Callable[..., Any], files: list[bytes], until: Callable[..., Any]
) -> None:
    """A request of 32 images has two under way on one lane; who comes then waits for no others."""
    order: list[str] = []
    limits = Limits(deadline_s=30)
    with run_app(limits) as running, concurrent.futures.ThreadPoolExecutor(2) as pool:
        detect = running.detector.detect

        def noted(data: Any, *words: Any, **options: Any) -> Any:
            order.append("other" if bytes(data) == files[3] else "image")
            return detect(data, *words, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running.detector, "detect", noted)
            with running.lanes_held():
                many = pool.submit(post, running, images_body(*[files[0]] * 32))
                until(lambda: running.detector.lanes.waiting == 2)
                assert order == ["image"] * 2
                other = pool.submit(running.client.post, "/detect", content=files[3])
                until(lambda: running.detector.lanes.present == 5)
            assert other.result().status_code == 200
            assert many.result().status_code == 200
        assert order.index("other") <= 4
        assert len(order) == 33


def test_a_forecast_that_ends_twice_is_taken_back_once() -> None:
    forecast = Forecast(1, 0.1)
    first, second = forecast.promise(1), forecast.promise(1)
    for promise in (first, second):
        forecast.accept(promise)
        forecast.arrived(promise)
        forecast.arrived(promise)
    assert forecast._ready == 2
    for _ in range(2):
        forecast.ended(first)
    assert (forecast._ready, sum(forecast._backlog_s)) == (1, pytest.approx(0.1))


def test_costly_images_are_refused_together_before_one_is_decoded(
    run_app: Callable[..., Any], encode: Callable[..., bytes], metric: Callable[..., float]
) -> None:
    """Each has the time of a request, and 3 KB of one colour: together they keep the lanes."""
    one = encode(Image.new("1", (5000, 5000)), "PNG")
    assert len(one) < 4000
    bound_s = png_cost(one).cpu_s
    with run_app(Limits(deadline_s=1.0, image_pixels=25_000_000)) as running:
        forecast = running.app.state.serving.live.dispatcher.forecast
        before = metric("seatrial_stage_seconds_count", stage="decode")
        for priority, status in ((1, 422), (2, 422)):
            forecast._decode_s, forecast._bound_s = 0.5, 1.0
            more = {"timeout": 60_000_000, "priority": priority}
            if priority == 2:
                more["timeout"] = int(0.9e6 * 0.5 * 32 * bound_s)
            response = post(running, images_body(*[one] * 32, parameters=more))
            assert response.status_code == status, response.text
            assert "the images would take" in error_of(response)
        assert metric("seatrial_stage_seconds_count", stage="decode") == before
        assert sum(forecast._backlog_s) == pytest.approx(0)
        two = images_body(one, one, parameters={"timeout": 60_000_000})
        assert post(running, two).status_code == 200


def test_images_count_by_their_headers_for_others(
    run_app: Callable[..., Any], encode: Callable[..., bytes], until: Callable[..., Any]
) -> None:
    """Who comes while they run is told how long they take, and not that of small files."""
    one = encode(Image.new("1", (5000, 5000)), "PNG")
    limits = Limits(deadline_s=30, image_pixels=25_000_000)
    with run_app(limits) as running, concurrent.futures.ThreadPoolExecutor(1) as pool:
        forecast = running.app.state.serving.live.dispatcher.forecast
        forecast._decode_s, forecast._bound_s = 0.5, 1.0
        forecast._first_s = 0.01
        forecast._work_s.clear()
        with running.lanes_held():
            many = pool.submit(post, running, images_body(*[one] * 8))
            until(lambda: running.detector.lanes.present > 2)
            assert sum(forecast._backlog_s) > 0.9 * 8 * 0.5 * png_cost(one).cpu_s
        assert many.result().status_code == 200


def test_what_cannot_be_done_by_the_deadline_is_refused_before_it_is_decoded(
    run_app: Callable[..., Any], files: list[bytes], metric: Callable[..., float]
) -> None:
    with run_app(Limits(deadline_s=0.5)) as running, running.lanes_held():
        forecast = running.app.state.serving.live.dispatcher.forecast
        forecast._first_s = 0.1  # of one image
        forecast._work_s.clear()
        before = metric("seatrial_stage_seconds_count", stage="decode")
        response = post(running, images_body(*[files[0]] * 32))
        assert response.status_code == 503
        assert "19 of 20 such requests are answered within" in error_of(response)
        assert {"retry-after", "x-predicted-wait-ms"} <= set(response.headers)
        assert metric("seatrial_stage_seconds_count", stage="decode") == before
        assert running.detector.lanes.present == 1
        assert sum(forecast._backlog_s) == pytest.approx(0)
