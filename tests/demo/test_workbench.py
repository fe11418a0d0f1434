"""Looking once, and showing what the settings ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from seatrial.demo.media import Media, open_media
from seatrial.demo.models import Model, Models, Seen
from seatrial.demo.workbench import FLOOR, KEPT, Choice, View, Workbench
from seatrial.deployment import Thresholds
from seatrial.detect.clock import STAGES
from seatrial.errors import InvalidInput


@pytest.fixture
def pale_media(pale: Callable[..., Any], encode: Callable[..., bytes]) -> Media:
    """Red 1.0 and red 0.6 side by side, blue 0.4."""
    return open_media("pale.png", encode(pale(), "PNG"))


@pytest.fixture
def asked(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> list[Thresholds]:
    """The thresholds of each time that the model was really asked."""
    rules_asked: list[Thresholds] = []
    detect = Model.detect

    def noted(self: Model, pictures: Sequence[bytes], rules: Thresholds, *rest: Any) -> list[Seen]:
        rules_asked.append(rules)
        return detect(self, pictures, rules, *rest)

    monkeypatch.setattr(Model, "detect", noted)
    return rules_asked


def found(view: View) -> list[tuple[str, float]]:
    return [(box.label, round(box.confidence, 1)) for box in view.seen[0].detections]


def test_boxes_over_the_confidence_are_shown_most_confident_first(
    workbench: Workbench, pale_media: Media
) -> None:
    view = workbench.view(pale_media, Choice(confidence=0.25))
    assert found(view) == [("red", 1.0), ("red", 0.6), ("blue", 0.4)]
    assert view.hidden == 0
    assert set(view.stages_ms) == set(STAGES)


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
            rules = Thresholds(confidence=confidence, iou=iou)
            (direct,) = model.detect([pale_media.frames[0].data], rules)
            assert view.seen[0].detections == direct.detections


def test_moving_the_iou_looks_again(
    workbench: Workbench, pale_media: Media, asked: list[Thresholds]
) -> None:
    assert len(found(workbench.view(pale_media, Choice(iou=0.7)))) == 3
    assert found(workbench.view(pale_media, Choice(iou=0.2))) == [("red", 1.0), ("blue", 0.4)]
    assert [rules.iou for rules in asked] == [0.7, 0.2]


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
    centres = [sum(seen.detections[0].box[::2]) / 2 for seen in view.seen]
    assert centres == pytest.approx([8, 24, 40, 56], abs=9)  # at the border boxes are cut
    assert centres == sorted(centres)
    assert view.boxes == 4


@pytest.mark.parametrize("wrong", [(0.01, 0.7), (1.1, 0.7), (0.5, -0.1), (0.5, 1.5)])
def test_settings_out_of_range_are_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match=f"from {FLOOR}"):
        Choice(*wrong)


@pytest.fixture
def counted(open_tiny: Callable[..., Model]) -> Iterator[tuple[Models, list[str]]]:
    """Models, and the names that were opened."""
    opened: list[str] = []

    def opening(name: str) -> Callable[[], Model]:
        def run() -> Model:
            opened.append(name)
            return open_tiny(name)

        return run

    with Models(open_tiny(), {"a": opening("a"), "b": opening("b")}) as models:
        yield models, opened


def test_rivals_are_opened_when_asked_for_and_once(counted: tuple[Models, list[str]]) -> None:
    models, opened = counted
    assert (models.rivals, opened) == (["a", "b"], [])
    threads = [threading.Thread(target=models.rival, args=("b",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["b"]
    with pytest.raises(InvalidInput, match="no model 'c'"):
        models.rival("c")


def test_a_refused_picture_is_an_error_and_the_next_is_answered(
    workbench: Workbench, pale_media: Media
) -> None:
    model = workbench.models.shown
    with pytest.raises(InvalidInput):
        model.detect([pale_media.frames[0].data, b"no picture"], Thresholds())
    assert len(model.detect([pale_media.frames[0].data], Thresholds())) == 1
