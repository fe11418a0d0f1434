"""The hot path of one request on the tiny detector, on every engine that computes."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.clock import STAGES
from seatrial.detect.detector import Detector, Ticket
from seatrial.engines.base import EngineConfig
from seatrial.engines.places import Abandoned
from seatrial.engines.registry import open_engine
from seatrial.errors import (
    DeadlineExceeded,
    EngineFailed,
    InputTooLarge,
    InvalidImage,
    InvalidInput,
)
from seatrial.models.import_onnx import import_onnx

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]
BoxOf = Callable[..., list[float]]


@pytest.fixture(params=["openvino", "onnxruntime"])
def detector(request: pytest.FixtureRequest, tiny_artifact: Artifact) -> Iterator[Detector]:
    config = EngineConfig(instances=2, threads=1, wide_threads=2)
    with Detector(tiny_artifact, open_engine(tiny_artifact, request.param, config)) as opened:
        yield opened


def test_boxes_are_where_the_colours_are(
    detector: Detector, picture: Picture, encode: Encode, box_of: BoxOf
) -> None:
    cells = {(2, 3): "red", (5, 1): "green", (6, 6): "blue"}
    result = detector.detect(encode(picture(cells), "PNG"), Thresholds())
    seen = {
        int(class_id): box.tolist()
        for class_id, box in zip(result.detections.class_id, result.detections.xyxy, strict=True)
    }
    assert seen == {0: box_of(2, 3), 1: box_of(5, 1), 2: box_of(6, 6)}
    assert result.detections.score.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_pixels_give_what_their_file_gives(
    detector: Detector, picture: Picture, encode: Encode
) -> None:
    image = picture({(2, 3): "red", (5, 1): "green"})
    pixels = np.asarray(image)
    found, wanted = (detector.detect(data, Thresholds()) for data in (pixels, encode(image, "PNG")))
    assert found.image is pixels
    assert len(found.detections) == 2
    assert np.array_equal(found.detections.xyxy, wanted.detections.xyxy)
    assert np.array_equal(found.detections.score, wanted.detections.score)
    assert list(found.stages_ms) == list(wanted.stages_ms)


def test_boxes_are_clipped_to_the_picture(
    detector: Detector, picture: Picture, encode: Encode
) -> None:
    result = detector.detect(encode(picture({(0, 0): "red"}), "PNG"), Thresholds())
    assert result.detections.xyxy.tolist() == [[0, 0, 24, 24]]


def test_boxes_of_a_letterboxed_picture_are_in_its_own_pixels(
    detector: Detector, picture: Picture, encode: Encode, box_of: BoxOf
) -> None:
    wide = picture({(1, 6): "blue"}, cells_hw=(4, 8))  # 128 x 64: bars above and below
    result = detector.detect(encode(wide, "PNG"), Thresholds())
    assert result.image.shape == (64, 128, 3)
    assert result.detections.xyxy.tolist() == [box_of(1, 6)]


def test_orientation_turns_the_boxes_too(
    detector: Detector, picture: Picture, encode: Encode, box_of: BoxOf
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees: row r becomes column 7 - r
    result = detector.detect(encode(picture({(2, 3): "red"}), "PNG", exif=exif), Thresholds())
    assert result.detections.xyxy.tolist() == [box_of(3, 5)]


def test_thresholds_of_the_request_count(
    detector: Detector, picture: Picture, encode: Encode
) -> None:
    data = encode(picture({(2, 3): "red", (2, 4): "red", (6, 6): "blue"}), "PNG")
    # Neighbours of one class overlap by a third.
    assert len(detector.detect(data, Thresholds()).detections) == 3
    assert len(detector.detect(data, Thresholds(iou=0.3)).detections) == 2
    assert len(detector.detect(data, Thresholds(max_detections=1)).detections) == 1
    dim = encode(Image.blend(picture(), picture({}), 0.6), "PNG")
    assert len(detector.detect(dim, Thresholds(confidence=0.5)).detections) == 0
    assert len(detector.detect(dim, Thresholds(confidence=0.3)).detections) == 1


def test_stages_are_timed_and_a_lone_request_takes_the_wide_lane(
    detector: Detector, photo: bytes
) -> None:
    result = detector.detect(photo, Thresholds())
    assert tuple(result.stages_ms) == STAGES
    assert all(value >= 0 for value in result.stages_ms.values())
    assert result.lane_threads == 2


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", InvalidInput), (b"\xff\xd8\xff\xe0", InvalidImage)],
)
def test_a_bad_picture_is_not_counted_any_more_afterwards(
    detector: Detector, photo: bytes, data: bytes, error: type[InvalidInput]
) -> None:
    for _ in range(3):
        with pytest.raises(error):
            detector.detect(data, Thresholds())
    assert detector.lanes.present == 0
    assert detector.detect(photo, Thresholds()).lane_threads == 2


def test_the_pixel_limit_is_the_callers(detector: Detector, photo: bytes) -> None:
    with pytest.raises(InputTooLarge):
        detector.detect(photo, Thresholds(), max_pixels=128 * 128 - 1)
    assert detector.lanes.present == 0


def test_requests_side_by_side_do_not_mix_their_answers(
    detector: Detector, picture: Picture, encode: Encode, box_of: BoxOf
) -> None:
    cells = [(row, column) for row in range(1, 7) for column in range(1, 7)]
    files = {cell: encode(picture({cell: "green"}), "PNG") for cell in cells}
    wrong: list[Any] = []

    def work(mine: list[tuple[int, int]]) -> None:
        for cell in mine * 3:
            got = detector.detect(files[cell], Thresholds()).detections.xyxy.tolist()
            if got != [box_of(*cell)]:
                wrong.append((cell, got))

    threads = [threading.Thread(target=work, args=(cells[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert detector.lanes.present == 0


def test_outputs_are_read_before_the_lane_goes_to_somebody_else(
    tiny_artifact: Artifact, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays are the lane's own: its next call writes over them."""
    engine = open_engine(tiny_artifact, "openvino", EngineConfig())
    with Detector(tiny_artifact, engine) as detector:
        idle: list[int] = []
        decode = detector._family.detections

        def record(*args: Any) -> Any:
            idle.append(len(detector.lanes._idle))
            return decode(*args)

        monkeypatch.setattr(detector._family, "detections", record)
        assert len(detector.detect(photo, Thresholds()).detections) == 1
        assert idle == [0]
        assert len(detector.lanes._idle) == 1


def test_a_copy_that_finds_no_memory_gives_the_lane_back(
    tiny_artifact: Artifact, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Detector(tiny_artifact, open_engine(tiny_artifact, "openvino", EngineConfig())) as one:

        def fails(outputs: Any) -> Any:
            raise MemoryError

        monkeypatch.setattr("seatrial.detect.detector.copied", fails)
        monkeypatch.setattr(type(one.lanes), "waiting", 1)  # the lane is wanted: a copy pays
        with pytest.raises(MemoryError):
            one.detect(photo, Thresholds())
        assert len(one.lanes._idle) == 1
        assert not one.lanes._held


@pytest.mark.parametrize("reason", ["deadline", "cancelled"])
def test_a_ticket_that_is_not_wanted_any_more_never_reaches_the_engine(
    tiny_artifact: Artifact, photo: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(tiny_artifact, "null", EngineConfig())
    with Detector(tiny_artifact, engine) as detector:
        ran: list[object] = []
        monkeypatch.setattr(engine.narrow[0], "infer", ran.append)
        ticket = Ticket(detector.lanes, 0.0 if reason == "deadline" else math.inf)
        if reason == "cancelled":
            ticket.cancel()
        with ticket, pytest.raises(DeadlineExceeded if reason == "deadline" else Abandoned):
            ticket.ready()
            detector.detect(photo, Thresholds(), ticket=ticket)
        assert ran == []
        assert "infer" not in ticket.clock.stages_ms
        assert detector.lanes.present == 0
        assert len(detector.lanes._idle) == 1


@pytest.mark.parametrize("lane_works", [True, False])
def test_tensors_at_which_the_engine_fails_are_at_fault_if_the_lane_works(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, lane_works: bool
) -> None:
    engine = open_engine(tiny_artifact, "onnxruntime", EngineConfig())
    with Detector(tiny_artifact, engine) as detector:
        suspects: list[Any] = []
        detector.lanes.on_suspect = suspects.append
        (lane,) = engine.narrow
        infer, odd = lane.infer, np.full((1, 64, 64, 3), 7, np.uint8)

        def failing(feeds: Any) -> Any:
            if not lane_works or (feeds["image"] == 7).all():
                raise RuntimeError("index out of range")
            return infer(feeds)

        monkeypatch.setattr(lane, "infer", failing)
        for _ in range(5 if lane_works else 3):
            with Ticket(detector.lanes) as ticket:
                ticket.ready()
                with pytest.raises(InvalidInput if lane_works else EngineFailed) as error:
                    detector.infer({"image": odd}, ticket)
        assert ("out of range" in error.value.message) is not lane_works  # no engine's own words
        assert len(suspects) == (0 if lane_works else 1)
        if lane_works:
            with Ticket(detector.lanes) as ticket:
                ticket.ready()
                found, _ = detector.infer({"image": np.zeros_like(odd)}, ticket)
            assert found["output0"].shape == (1, 7, 64)


def test_the_callers_ticket_is_counted_once_and_timed(
    tiny_artifact: Artifact, photo: bytes
) -> None:
    with Detector(tiny_artifact, open_engine(tiny_artifact, "null", EngineConfig())) as detector:
        with Ticket(detector.lanes) as ticket:
            ticket.ready()
            ticket.clock.lap("receive")
            result = detector.detect(photo, Thresholds(), ticket=ticket)
            assert detector.lanes.present == 1
        assert detector.lanes.present == 0
    assert list(result.stages_ms) == ["receive", *STAGES]
    assert result.stages_ms == ticket.clock.stages_ms


def test_the_engine_is_closed_when_the_block_ends(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "null", EngineConfig())
    closed: list[bool] = []
    engine.close = lambda: closed.append(True)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError), Detector(tiny_artifact, engine) as detector:
        assert closed == []
        assert detector.engine is engine
        raise ZeroDivisionError
    assert closed == [True]


def test_warm_up_runs_every_lane(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "null", EngineConfig(instances=3, wide_threads=2))
    ran: list[int] = []
    for index, lane in enumerate((*engine.narrow, engine.wide)):
        real = lane.infer
        lane.infer = lambda feeds, i=index, run=real: (ran.append(i), run(feeds))[1]  # type: ignore
    Detector(tiny_artifact, engine).warm_up()
    assert ran == [0, 1, 2, 3, 0, 0]  # the last two are timed


def test_the_null_engine_finds_nothing(tiny_artifact: Artifact, photo: bytes) -> None:
    with Detector(tiny_artifact, open_engine(tiny_artifact, "null", EngineConfig())) as detector:
        result = detector.detect(photo, Thresholds(confidence=0.0))
    assert len(result.detections) == 0
    assert result.image.shape == (128, 128, 3)


def test_yolo11n_finds_what_is_on_the_photos(
    shared_yolo: Path, shared_photos: list[Path], tmp_path: Path
) -> None:
    artifact = import_onnx(Store(tmp_path / "store"), shared_yolo)
    photo = shared_photos[0]
    answers = []
    for name in ("openvino", "onnxruntime"):
        with Detector(artifact, open_engine(artifact, name, EngineConfig(threads=2))) as detector:
            answers.append(detector.detect(photo.read_bytes(), Thresholds()).detections)
    first, second = answers
    labelled = classes_on(photo)
    assert {artifact.manifest.labels[c] for c in first.class_id[first.score > 0.5]} <= labelled
    assert len(first) >= 3
    np.testing.assert_array_equal(first.class_id, second.class_id)
    np.testing.assert_allclose(first.xyxy, second.xyxy, atol=0.2)
    np.testing.assert_allclose(first.score, second.score, atol=2e-3)


def classes_on(photo: Path) -> set[str]:
    truth = json.loads((photo.parents[1] / "instances.json").read_text())
    names = {row["id"]: row["name"] for row in truth["categories"]}
    number = next(row["id"] for row in truth["images"] if row["file_name"] == photo.name)
    return {names[row["category_id"]] for row in truth["annotations"] if row["image_id"] == number}
