"""Requests that share a run: on real engines, and asserted on the runs themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.lane_requests import ready
from tests.support.tiny_by_hand import by_hand

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import EngineConfig
from seatrial.engines.batches import Batches
from seatrial.engines.lanes import FAILURES, Held, Lanes
from seatrial.engines.places import Abandoned, Place, Share
from seatrial.engines.registry import open_engine
from seatrial.errors import DeadlineExceeded, EngineFailed, InvalidConfig
from seatrial.models.import_onnx import import_onnx

PATIENCE_S = 20.0
MOST = 4
IMAGES = np.random.default_rng(3).integers(0, 256, (6, 1, 64, 64, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def open_batch(store: Store, model_file: Callable[..., Path]) -> Artifact:
    """The tiny detector with an open batch size."""
    return import_onnx(store, model_file(batch="batch"))


class Service:
    """An engine, and requests on threads of their own.

    Attributes:
        runs: Number of images of each run.
        poison: Value of an image's first byte at which the engine raises.
    """

    def __init__(self, artifact: Artifact, engine: str, **config: Any) -> None:
        self.engine = open_engine(artifact, engine, EngineConfig(max_batch=MOST, **config))
        self.lanes = Lanes(self.engine, MOST)
        self.batches = Batches(self.lanes, self._infer)
        self.runs: list[int] = []
        self.poison = -1

    def _infer(self, lane: Any, feeds: Any) -> Any:
        (images,) = feeds.values()
        self.runs.append(len(images))
        if (images[:, 0, 0, 0] == self.poison).any():
            raise EngineFailed("poison")
        return lane.infer(feeds)

    def ask(self, image: np.ndarray) -> tuple[Place, threading.Thread, list[Any]]:
        """A request that waits for a lane, or has been answered."""
        place, answer = ready(self.lanes), []

        def work() -> None:
            with place:
                try:
                    answer.append(self.read(self.batches.run(place, {"image": image})))
                except (EngineFailed, DeadlineExceeded, Abandoned) as error:
                    answer.append(error)

        before = self.lanes.waiting
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        until(lambda: answer or self.lanes.waiting > before)
        return place, thread, answer

    def read(self, share: Share) -> np.ndarray:
        (output,) = share.outputs.values()
        found = np.array(output)
        if share.lane is not None:
            self.lanes.release(share.lane, ran=True)
        return found

    @contextmanager
    def lanes_held(self) -> Iterator[None]:
        """Nothing runs as long as this lasts."""
        places = [ready(self.lanes) for _ in self.engine.narrow]
        taken = [self.lanes.acquire(place) for place in places]
        yield
        for place, lane in zip(places, taken, strict=True):
            place.leave()
            assert lane is not None
            self.lanes.release(lane)


def until(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_requests_that_wait_share_runs_and_each_has_what_it_has_alone(
    open_batch: Artifact, name: str
) -> None:
    service = Service(open_batch, name)
    alone = [service.read(service.batches.run(ready(service.lanes), {"image": i})) for i in IMAGES]
    service.runs.clear()
    with service.lanes_held():
        asked = [service.ask(image) for image in IMAGES]
    for (_, thread, answer), expected, image in zip(asked, alone, IMAGES, strict=True):
        thread.join(PATIENCE_S)
        np.testing.assert_array_equal(answer[0], expected)  # to the bit
        np.testing.assert_allclose(answer[0], by_hand(image), atol=1e-5)
    assert service.runs == [MOST, 2]
    assert service.lanes.waiting == 0


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_an_image_at_which_the_engine_raises_takes_no_other_with_it(
    open_batch: Artifact, name: str
) -> None:
    service = Service(open_batch, name)
    images = IMAGES[:MOST].copy()
    images[:, 0, 0, 0, 0] = range(MOST)
    service.poison = 2
    with service.lanes_held():
        asked = [service.ask(image) for image in images]
    for index, (_, thread, answer) in enumerate(asked):
        thread.join(PATIENCE_S)
        if index == service.poison:
            assert isinstance(answer[0], EngineFailed)
        else:
            np.testing.assert_allclose(answer[0], by_hand(images[index]), atol=1e-5)
    assert service.runs == [MOST, 1, 1, 1, 1]
    # The lane is given back, and serves on.
    _, thread, answer = service.ask(IMAGES[0])
    thread.join(PATIENCE_S)
    np.testing.assert_allclose(answer[0], by_hand(IMAGES[0]), atol=1e-5)


def test_a_lane_that_fails_in_shared_runs_is_suspected(open_batch: Artifact) -> None:
    service = Service(open_batch, "onnxruntime")
    suspects: list[Held] = []
    service.lanes.on_suspect = suspects.append
    service.poison = int(IMAGES[0, 0, 0, 0, 0])
    for _ in range(FAILURES):
        assert suspects == []
        with service.lanes_held():
            asked = [service.ask(image) for image in (IMAGES[0], IMAGES[0])]
        for _, thread, answer in asked:
            thread.join(PATIENCE_S)
            assert isinstance(answer[0], EngineFailed)
    assert [held.lane for held in suspects] == [*service.engine.narrow]


def test_who_leaves_before_the_images_of_a_failed_run_are_run_alone_is_in_none(
    open_batch: Artifact,
) -> None:
    service = Service(open_batch, "onnxruntime")
    images = IMAGES[:3].copy()
    images[:, 0, 0, 0, 0] = range(3)
    service.poison, infer = 2, service._infer

    def leaving(lane: Any, feeds: Any) -> Any:
        asked[1][0].cancel()
        return infer(lane, feeds)

    service.batches._infer = leaving
    with service.lanes_held():
        asked = [service.ask(image) for image in images]
    for _, thread, _ in asked:
        thread.join(PATIENCE_S)
    assert service.runs == [3, 1, 1]
    kinds = [type(answer[0]) for _, _, answer in asked]
    assert kinds == [np.ndarray, Abandoned, EngineFailed]


def test_what_is_given_up_while_it_waits_is_in_no_run(open_batch: Artifact) -> None:
    service = Service(open_batch, "onnxruntime")
    with service.lanes_held():
        asked = [service.ask(image) for image in IMAGES[:3]]
        asked[0][0].cancel()
        asked[1][0].expire_in(0.0)
    for _, thread, _ in asked:
        thread.join(PATIENCE_S)
    assert service.runs == [1]
    kinds = [type(answer[0]) for _, _, answer in asked]
    assert kinds == [Abandoned, DeadlineExceeded, np.ndarray]


def test_a_request_that_leaves_during_the_run_of_another_goes_at_once(
    open_batch: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(open_batch, "onnxruntime")
    began, go_on = threading.Event(), threading.Event()
    infer = service._infer

    def slow(lane: Any, feeds: Any) -> Any:
        began.set()
        go_on.wait(PATIENCE_S)
        return infer(lane, feeds)

    service.batches._infer = slow
    with service.lanes_held():
        (_, first, answer), (place, second, gone) = (service.ask(image) for image in IMAGES[:2])
    assert began.wait(PATIENCE_S)
    place.cancel()
    second.join(PATIENCE_S)
    assert isinstance(gone[0], Abandoned)
    go_on.set()
    first.join(PATIENCE_S)
    np.testing.assert_allclose(answer[0], by_hand(IMAGES[0]), atol=1e-5)
    assert service.runs == [2]


def test_a_stuck_run_ends_all_of_its_requests(open_batch: Artifact) -> None:
    service = Service(open_batch, "onnxruntime")
    began, go_on = threading.Event(), threading.Event()
    service.batches._infer = lambda lane, feeds: (began.set(), go_on.wait(PATIENCE_S), {})[2]
    with service.lanes_held():
        asked = [service.ask(image) for image in IMAGES[:3]]
    assert began.wait(PATIENCE_S)
    (held,) = service.lanes.overdue(11.0, 10.0)
    assert held.places == [place for place, _, _ in asked]
    for place in held.places:
        place.fail(EngineFailed("stuck"))
    for _, thread, answer in asked[1:]:
        thread.join(PATIENCE_S)
        assert isinstance(answer[0], Abandoned)
    assert service.lanes.present == 0
    go_on.set()
    asked[0][1].join(PATIENCE_S)


def test_when_the_first_of_a_batch_is_interrupted_the_others_are_answered(
    open_batch: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn comes, and with it its deadline: the others have a turn without it."""
    service = Service(open_batch, "onnxruntime")
    with service.lanes_held():
        asked = [service.ask(image) for image in IMAGES[:3]]
        first, checks = asked[0][0], iter([None])
        check = Place.check

        def late(place: Place) -> None:
            if place is first and next(checks, "late") == "late":
                raise first.too_late()
            check(place)

        next(checks)
        monkeypatch.setattr(Place, "check", late)
    for (_, thread, answer), image in zip(asked, IMAGES, strict=False):
        thread.join(PATIENCE_S)
        if thread is asked[0][1]:
            assert isinstance(answer[0], DeadlineExceeded)
        else:
            np.testing.assert_allclose(answer[0], by_hand(image), atol=1e-5)
    assert service.runs == [2]
    assert service.lanes.waiting == 0


def test_runs_are_reported(open_batch: Artifact) -> None:
    service = Service(open_batch, "null")
    seen: list[tuple[int, str, float]] = []
    with service.lanes_held():
        asked = [service.ask(image) for image in IMAGES]
        service.lanes.on_batch = lambda *run: seen.append(run)
    for _, thread, _ in asked:
        thread.join(PATIENCE_S)
    assert seen == [(MOST, "full", 0.0), (2, "idle", 0.0)]


def test_a_lone_request_has_the_wide_lane(open_batch: Artifact) -> None:
    service = Service(open_batch, "onnxruntime", wide_threads=2)
    with ready(service.lanes) as place:
        assert service.batches.run(place, {"image": IMAGES[0]}).threads == 2


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "null"])
def test_a_graph_of_a_fixed_batch_size_says_so(tiny_artifact: Artifact, name: str) -> None:
    with pytest.raises(InvalidConfig, match="one image at a time: the batch size of image is"):
        open_engine(tiny_artifact, name, EngineConfig(max_batch=2))
