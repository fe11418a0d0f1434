"""Looking once, and showing what the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.predict import SeenImage
from seatrial.artifact import Artifact
from seatrial.demo.media import Media, open_media
from seatrial.demo.models import Model
from seatrial.demo.workbench import FLOOR, KEPT, Choice, View, Workbench
from seatrial.deployment import DetectionDefaults, Thresholds
from seatrial.detect.answer import boxes
from seatrial.detect.clock import STAGES
from seatrial.errors import InvalidInput


@pytest.fixture
def pale_media(pale: Callable[..., Any], encode: Callable[..., bytes]) -> Media:
    """Red 1.0 and red 0.6 side by side, blue 0.4."""
    return open_media("pale.png", encode(pale(), "PNG"))


@pytest.fixture
def asked(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> list[Thresholds]:
    """The thresholds of each call of the model."""
    given: list[Thresholds] = []
    detect = Model.detect

    def noted(
        self: Model, images: Sequence[bytes], thresholds: Thresholds, *rest: Any
    ) -> list[SeenImage]:
        given.append(thresholds)
        return detect(self, images, thresholds, *rest)

    monkeypatch.setattr(Model, "detect", noted)
    return given


def found(view: View) -> list[tuple[str, float]]:
    rows = boxes(view.shown[0], view.model.labels)
    return [(box.label, round(box.confidence, 1)) for box in rows]


def test_boxes_over_the_confidence_are_shown_most_confident_first(
    workbench: Workbench, pale_media: Media
) -> None:
    view = workbench.view(pale_media, Choice(confidence=0.25))
    assert found(view) == [("red", 1.0), ("red", 0.6), ("blue", 0.4)]
    assert view.hidden == 0
    assert set(view.stages_ms) == {*STAGES, "total"}


def test_moving_the_confidence_hides_boxes_and_asks_nobody(
    workbench: Workbench, pale_media: Media, asked: list[Thresholds]
) -> None:
    shown = {c: workbench.view(pale_media, Choice(confidence=c)) for c in (0.25, 0.5, 0.9)}
    assert {c: len(found(view)) for c, view in shown.items()} == {0.25: 3, 0.5: 2, 0.9: 1}
    assert [view.hidden for view in shown.values()] == [0, 1, 2]
    assert asked == [Thresholds(confidence=FLOOR, iou=0.7)]


def test_the_confidence_may_be_set_before_or_after(
    workbench: Workbench, pale_media: Media, open_tiny: Callable[..., Model]
) -> None:
    """What the page shows is what the service would answer at that confidence."""
    model = workbench.models.shown
    for iou in (0.2, 0.7):
        for confidence in (0.3, 0.5, 0.8):
            view = workbench.view(pale_media, Choice(confidence, iou))
            thresholds = Thresholds(confidence=confidence, iou=iou)
            (direct,) = model.detect([pale_media.frames[0].data], thresholds)
            for name in ("xyxy", "score", "class_id"):
                shown, answered = (getattr(d, name) for d in (view.shown[0], direct.detections))
                np.testing.assert_array_equal(shown, answered)


def test_moving_the_iou_looks_again(
    workbench: Workbench, pale_media: Media, asked: list[Thresholds]
) -> None:
    assert len(found(workbench.view(pale_media, Choice(iou=0.7)))) == 3
    assert found(workbench.view(pale_media, Choice(iou=0.2))) == [("red", 1.0), ("blue", 0.4)]
    assert [thresholds.iou for thresholds in asked] == [0.7, 0.2]


def test_only_the_classes_that_are_chosen_are_shown(
    workbench: Workbench, pale_media: Media
) -> None:
    view = workbench.view(pale_media, Choice(classes=("blue", "green")))
    assert found(view) == [("blue", 0.4)]
    assert view.hidden == 2


def test_two_models_are_asked_each_for_itself(
    workbench: Workbench, pale_media: Media, asked: list[Thresholds]
) -> None:
    first = workbench.view(pale_media, Choice())
    second = workbench.view(pale_media, Choice(), workbench.models.rival("again"))
    assert second.model.name == "again"
    assert found(first) == found(second)
    assert len(asked) == 2


def test_the_oldest_answers_are_forgotten(
    workbench: Workbench, pale_media: Media, asked: list[Thresholds]
) -> None:
    ious = [0.3 + n / 100 for n in range(KEPT + 1)]
    for iou in [*ious, ious[-1], ious[0]]:
        workbench.view(pale_media, Choice(iou=iou))
    assert len(asked) == KEPT + 2  # the last was known, the first was not any more


def test_a_video_is_looked_at_frame_by_frame(
    workbench: Workbench, clip: Callable[..., bytes], picture: Callable[..., Any]
) -> None:
    media = open_media("v.mp4", clip([picture({(2, n): "red"}) for n in range(4)]))
    steps: list[tuple[object, ...]] = []
    view = workbench.view(media, Choice(), on_progress=lambda *step: steps.append(step))
    assert steps == [("detecting", number, 4) for number in (1, 2, 3, 4)]
    centres = [float(shown.xyxy[0, ::2].mean()) for shown in view.shown]
    assert centres == pytest.approx([8, 24, 40, 56], abs=9)  # at the border boxes are cut
    assert centres == sorted(centres)
    assert view.boxes == 4


@pytest.mark.parametrize("wrong", [(0.01, 0.7), (1.1, 0.7), (0.5, -0.1), (0.5, 1.5)])
def test_settings_out_of_range_are_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match=f"from {FLOOR}"):
        Choice(*wrong)


def test_an_object_keeps_its_track_over_a_gap_and_another_gets_its_own(
    workbench: Workbench, clip: Callable[..., bytes], picture: Any
) -> None:
    """A red one that walks, and is hidden for a frame; a blue one that comes later."""
    places = [(2, 1), (2, 2), None, (2, 2), (2, 3), (2, 4)]
    frames = [
        picture({**({place: "red"} if place else {}), **({(6, 6): "blue"} if n > 1 else {})})
        for n, place in enumerate(places)
    ]
    view = workbench.view(open_media("walk.mp4", clip(frames)), Choice())
    seen = [
        dict(zip(one.class_id.tolist(), one.track_id.tolist(), strict=True)) for one in view.shown
    ]
    assert [frame.get(0) for frame in seen] == [1, 1, None, 1, 1, 1]
    assert [frame.get(2) for frame in seen] == [None, None, 2, 2, 2, 2]
    assert (view.tracks, view.boxes) == (2, 9)
    assert replace(view, shown=view.shown[:2]).tracks == 1


def test_one_box_alone_is_no_track(
    workbench: Workbench, clip: Callable[..., bytes], picture: Any
) -> None:
    frames = [picture({(2, 2): "red"} if n == 1 else {}) for n in range(4)]
    view = workbench.view(open_media("flash.mp4", clip(frames)), Choice())
    assert (view.tracks, view.boxes) == (0, 1)
    assert view.shown[1].track_id.tolist() == [-1]


def test_an_image_has_no_tracks(view: View) -> None:
    assert view.tracks == 0
    assert view.shown[0].track_id is None


def test_a_page_begins_with_the_thresholds_of_the_model(
    tiny_artifact: Artifact, open_tiny: Callable[..., Model]
) -> None:
    manifest = msgspec.structs.replace(tiny_artifact.manifest, confidence=0.4, iou=0.6)
    for given, usual in (
        (DetectionDefaults(), (0.4, 0.6)),
        (DetectionDefaults(confidence=0.01, iou=0.3), (FLOOR, 0.3)),  # as far as the page goes
    ):
        model = open_tiny(
            "tiny", Artifact(tiny_artifact.path, manifest, tiny_artifact.digest), given
        )
        try:
            choice = Choice.usual(model)
        finally:
            model.close()
        assert (choice.confidence, choice.iou) == usual
