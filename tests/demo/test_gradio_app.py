"""What Gradio's events give; test_browser.py has the page in a browser."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
from seatrial.demo import gradio_app
from seatrial.demo.examples import DemoExample
from seatrial.demo.page import IMAGE_BUTTON, NO_RIVAL, WELCOME
from seatrial.demo.workbench import Workbench

SETTINGS = (0.25, 0.7, [], NO_RIVAL)
# Gradio makes an event loop for each page and never closes it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def loops() -> Iterator[None]:
    """Collects those loops before another test file would be blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def image(tmp_path: Path, pale: Any, encode: Callable[..., bytes]) -> Path:
    path = tmp_path / "pale.png"
    path.write_bytes(encode(pale(), "PNG"))
    return path


@pytest.fixture
def page(workbench: Workbench, image: Path, tmp_path: Path) -> Any:
    """The page, with one example to click."""
    (tmp_path / "files").mkdir()
    files = gradio_app._BrowserFiles(tmp_path / "files")
    return gradio_app._GradioPage(workbench, [DemoExample(image, b"")], files)


def test_every_event_gives_a_value_to_every_component(page: Any, image: Path) -> None:
    """Gradio takes 3 ms for each one that is left out."""
    outputs = {
        page._media, page._file, page._summary,
        *page._first.components(), *page._second.components(),
    }  # fmt: skip
    for updates in (
        page._given(None, *SETTINGS),
        page._given(str(image), *SETTINGS),
        page._given(str(image), 0.25, 0.7, [], "again"),
        page._changed(None, *SETTINGS),
    ):
        assert outputs <= set(updates)


def test_an_image_and_its_files(page: Any, image: Path) -> None:
    updates = page._given(str(image), *SETTINGS)
    assert updates[page._summary] == "3 objects in pale.png (128 x 128)."
    drawn = Path(updates[page._first.image])
    assert (drawn.name, drawn.read_bytes()[:3]) == ("pale-boxes.jpg", b"\xff\xd8\xff")
    assert updates[page._first.video] is None
    names = {name: Path(updates[button]).name for name, button in page._first.downloads.items()}
    assert names == {
        IMAGE_BUTTON: "pale-boxes.jpg", "JSON": "pale.json",
        "COCO": "pale-coco.json", "YOLO": "pale-yolo.zip",
    }  # fmt: skip
    assert updates[page._second.image] is None
    assert page._changed(updates[page._media], 0.5, 0.7, [], NO_RIVAL)[page._summary].startswith(
        "2 "
    )
    only_blue = page._changed(updates[page._media], 0.25, 0.7, ["blue"], NO_RIVAL)
    assert only_blue[page._summary].startswith("1 object ")


def test_a_clicked_example(page: Any) -> None:
    updates = page._clicked(*SETTINGS, SimpleNamespace(index=0))
    assert updates[page._summary].startswith("3 objects in pale.png")


def test_a_model_beside_it(page: Any, image: Path) -> None:
    updates = page._given(str(image), 0.25, 0.7, [], "again")
    assert updates[page._second.title].startswith("**tiny (onnxruntime")
    assert Path(updates[page._second.image]).is_file()
    assert "Both see 3 objects" in updates[page._summary]


def test_a_video_is_detected_in_by_the_event_that_shows_progress(
    page: Any, tmp_path: Path, clip: Callable[..., bytes], picture: Callable[..., Any]
) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(clip([picture({(2, n): "red"}) for n in range(3)]))
    given = page._given(str(path), *SETTINGS)
    assert given[page._summary] == "Detecting in walk.mp4 ..."
    assert given[page._video]  # its change is the second event
    steps: list[tuple[int, int]] = []

    def progress(done: tuple[int, int], **words: str) -> None:
        steps.append(done)

    updates = page._watched(given[page._media], *SETTINGS, progress)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert updates[page._summary].startswith("3 objects in 3 frames of walk.mp4")
    assert Path(updates[page._first.video]).suffix == ".mp4"
    assert updates[page._first.image] is None
    # An image was given in the meantime.
    assert page._watched(None, *SETTINGS, progress) == {page._video: ""}


def test_what_is_refused_is_said_on_the_page(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    updates = page._given(str(tmp_path / "notes.txt"), *SETTINGS)
    assert "notes.txt is neither a picture nor a video" in updates[page._summary]
    assert updates[page._media] is None
    assert page._given(None, *SETTINGS)[page._summary] == WELCOME


def test_files_of_old_results_are_removed(
    page: Any, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradio_app, "KEPT_RESULTS", 2)
    shown = [Path(page._given(str(image), *SETTINGS)[page._first.image]) for _ in range(4)]
    assert [path.is_file() for path in shown] == [False, False, True, True]
