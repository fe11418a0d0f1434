"""Both pages in a real browser that can reach nothing but this machine."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from browser import PHONE, POLL_MS, WIDE
from packages import skip_without
from seatrial.artifact import Artifact
from seatrial.demo.brand import ICON

pytestmark = pytest.mark.slow

# Both front ends offer their button before the camera's first frame, and then take nothing.
CAMERA_SHOWS = """() => [...document.querySelectorAll("video")].some(video =>
    video.checkVisibility() && video.srcObject && video.readyState >= video.HAVE_CURRENT_DATA
    && video.videoWidth > 0 && video.currentTime > 0)"""


class GradioPage:
    """How a person works Gradio's widgets."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def slide(self, label: str, value: float) -> None:
        self.page.get_by_label(f"range slider for {label}").fill(str(value))

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def photograph(self) -> None:
        self.page.get_by_role("tab", name="Webcam").click()
        self.page.get_by_text("Click to Access Webcam").click()
        self.page.wait_for_function(CAMERA_SHOWS, polling=POLL_MS)
        self.page.get_by_role("button", name="capture photo").click()

    def click_example(self, number: int) -> None:
        self.page.get_by_label(f"Thumbnail {number + 1} of").click()

    def settings(self) -> None:
        """They are in sight."""


class StreamlitPage(GradioPage):
    """How a person works Streamlit's widgets."""

    def slide(self, label: str, value: float) -> None:
        slider = self.page.get_by_role("slider", name=label)
        slider.focus()
        steps = round((value - float(slider.input_value())) * 100)
        for _ in range(abs(steps)):
            slider.press("ArrowRight" if steps > 0 else "ArrowLeft")

    def photograph(self) -> None:
        self.page.get_by_text("Webcam", exact=True).click()
        self.page.wait_for_function(CAMERA_SHOWS, polling=POLL_MS)
        self.page.get_by_role("button", name="Take Photo").click()

    def click_example(self, number: int) -> None:
        # By the widget's key: buttons come into sight in any order.
        self.page.locator(f".st-key-example-{number} button").click()


COMPARED = 2  # place of the second model's boxes among the tables
PAGES = {"gradio": GradioPage, "streamlit": StreamlitPage}


@pytest.fixture(scope="module")
def examples(
    tmp_path_factory: pytest.TempPathFactory, pale: Any, picture: Any, encode: Any, clip: Any
) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "a-pale.png").write_bytes(encode(pale(), "PNG"))
    (folder / "b-green.jpg").write_bytes(encode(picture({(1, 1): "green"})))
    (folder / "c-walk.mp4").write_bytes(clip([picture({(2, n): "red"}) for n in range(5)]))
    return folder


@pytest.fixture(scope="module", params=PAGES)
def front_end(request: pytest.FixtureRequest, browser: Any) -> str:
    skip_without(request.param, extra="demo")
    return str(request.param)


@pytest.fixture(scope="module")
def demo(
    front_end: str,
    start_demo: Callable[..., Any],
    tiny_artifact: Artifact,
    other_artifact: Artifact,
    examples: Path,
) -> Iterator[Any]:
    options = ("--engine", "onnxruntime", "--examples", str(examples))
    model = str(tiny_artifact.path)
    with start_demo(front_end, "--model", model, *options, stored=[other_artifact]) as running:
        yield running


@pytest.fixture
def visit(browser: Any, front_end: str, demo: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page; in the end, nothing may have been asked of another host."""
    asked: list[str] = []
    pages = []

    def open_page(viewport: dict[str, int] = WIDE, url: str = demo.url) -> Any:
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size(viewport)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(url)
        page.get_by_text("Give an image or a short video").wait_for()
        return PAGES[front_end](page)

    yield open_page
    for page in pages:
        page.close()
    assert len(asked) > 10
    elsewhere = {
        url for url in asked
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
    }  # fmt: skip
    assert elsewhere == set()


def give(page: Any, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)


ROWS = """table => {
    const shown = [...document.querySelectorAll(".seatrial-rows")].filter(t => t.checkVisibility());
    return table < shown.length && [...shown[table].tBodies[0].rows].map(
        row => [...row.cells].map(cell => cell.innerText));
}"""


def rows(page: Any, table: int = 0) -> list[list[str]]:
    """Text of a table's rows without its head, once it is in sight."""
    found: list[list[str]] = page.wait_for_function(ROWS, arg=table, polling=POLL_MS).json_value()
    return found


def wait_for_rows(page: Any, *expected: tuple[str, ...], table: int = 0) -> None:
    """Wait until a table's rows begin with certain cells: pages are filled part by part."""
    page.wait_for_function(
        f"""([table, rows]) => {{
            const found = ({ROWS})(table);
            return found && found.length == rows.length && rows.every(
                (row, n) => row.every((cell, m) => found[n][m] == cell));
        }}""",
        arg=[table, expected],
        polling=POLL_MS,
    )


def wait_for_pictures(page: Any, count: int, width: int = 128) -> None:
    """Wait for pictures of a width, in their own pixels, to be loaded and in sight."""
    page.wait_for_function(
        """([count, width]) => [...document.images].filter(
            image => image.complete && image.naturalWidth == width && image.checkVisibility()
        ).length == count""",
        arg=[count, width],
        polling=POLL_MS,
    )


def clipped(page: Any) -> list[str]:
    """Text of the tables that are wider than their place."""
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll(".seatrial")].filter(
            table => table.scrollWidth > table.clientWidth
                || table.getBoundingClientRect().right > innerWidth
        ).map(table => table.innerText)"""
    )
    return found


def place_of(page: Any, label: str) -> float:
    """Distance of a text from the top of the page, whose scroll position does not count, px."""
    place: float = page.get_by_text(label, exact=True).first.evaluate(
        """element => {
            let place = element.getBoundingClientRect().y + scrollY;
            for (let e = element.parentElement; e; e = e.parentElement)
                place += e == document.scrollingElement ? 0 : e.scrollTop;
            return place;
        }"""
    )
    return place


def download(page: Any, name: str) -> tuple[str, bytes]:
    with page.expect_download() as caught:
        page.get_by_text(f"↓ {name}").first.click()
    return caught.value.suggested_filename, Path(caught.value.path()).read_bytes()


def test_upload_settings_and_downloads(visit: Callable[..., Any], examples: Path) -> None:
    person = visit()
    page = person.page
    give(page, examples / "a-pale.png")
    page.get_by_text("3 objects in a-pale.png (128 x 128).").wait_for()
    wait_for_rows(page, ("red", "1.00"), ("red", "0.60"), ("blue", "0.40"))
    assert [row[0] for row in rows(page, 1)][-2:] == ["postprocess", "total"]
    wait_for_pictures(page, 1)

    person.slide("Confidence", 0.5)
    page.get_by_text("2 objects in a-pale.png").wait_for()
    person.slide("IoU", 0.2)
    page.get_by_text("1 object in a-pale.png").wait_for()
    wait_for_rows(page, ("red", "1.00"))
    person.slide("Confidence", 0.25)
    page.get_by_text("2 objects in a-pale.png").wait_for()
    person.choose("Classes", "blue")
    page.get_by_text("1 object in a-pale.png").wait_for()
    wait_for_rows(page, ("blue", "0.40"))

    name, data = download(page, "Image")
    assert (name, data[:3]) == ("a-pale-boxes.jpg", b"\xff\xd8\xff")
    name, data = download(page, "JSON")
    assert name == "a-pale.json"
    assert json.loads(data)["shown"] == {"confidence": 0.25, "iou": 0.2, "classes": ["blue"]}
    name, data = download(page, "COCO")
    assert [round(a["score"], 1) for a in json.loads(data)["annotations"]] == [0.4]
    name, data = download(page, "YOLO")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels/train/a-pale.txt").startswith(b"2 ")


def test_a_bad_file_gives_a_readable_message_and_the_next_is_shown(
    visit: Callable[..., Any], examples: Path, tmp_path: Path, photo: bytes
) -> None:
    bad = {
        "notes.txt": (b"these are not pixels", "notes.txt is neither an image nor a video"),
        "half.jpg": (photo[:-60], "damaged or cut off"),
        "half.mp4": (b"\0\0\0\x18ftypisom" + bytes(80), "the video half cannot be read"),
    }
    page = visit().page
    for name, (data, said) in bad.items():
        (tmp_path / name).write_bytes(data)
        give(page, tmp_path / name)
        page.get_by_text(said).wait_for()
        assert page.get_by_text("Traceback").count() == 0
    give(page, examples / "a-pale.png")
    page.get_by_text("3 objects in a-pale.png").wait_for()


def test_at_the_width_of_a_phone(visit: Callable[..., Any], examples: Path) -> None:
    page = visit(PHONE).page
    give(page, examples / "a-pale.png")
    page.get_by_text("3 objects in a-pale.png").wait_for()
    page.get_by_text("postprocess").wait_for()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    assert clipped(page) == []
    for button in ("Image", "JSON", "COCO", "YOLO"):
        box = page.get_by_text(f"↓ {button}").first.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"]


def test_on_a_phone_a_result_moves_no_setting(visit: Callable[..., Any], examples: Path) -> None:
    person = visit(PHONE)
    page = person.page
    give(page, examples / "a-pale.png")
    page.get_by_text("3 objects in a-pale.png").wait_for()
    wait_for_pictures(page, 1)
    page.get_by_text("postprocess").wait_for()
    places = [place_of(page, "Confidence")]
    # Fewer rows in the table, and a longer text above the picture.
    person.slide("Confidence", 0.7)
    page.get_by_text("1 object in a-pale.png").wait_for()
    places.append(place_of(page, "Confidence"))
    picture, settings = (page.get_by_text(text).first for text in ("↓ YOLO", "Confidence"))
    table = page.locator(".seatrial-rows").first
    tops = [element.bounding_box()["y"] for element in (picture, settings, table)]
    assert tops == sorted(tops)
    assert places[1] == pytest.approx(places[0], abs=2)


def test_the_page_has_a_name_and_an_icon_of_its_own(visit: Callable[..., Any]) -> None:
    page = visit().page
    assert page.title() == "Seatrial: tiny"
    assert page.locator(".seatrial-head").inner_text().split() == ["Seatrial", "tiny"]
    address = page.locator("link[rel~=icon]").first.evaluate("link => link.href")
    icon = page.evaluate("address => fetch(address).then(answer => answer.text())", address)
    assert icon == ICON.read_text()
    assert page.evaluate("document.querySelector('.seatrial-head img').naturalWidth") > 0


def test_a_picture_from_the_webcam(visit: Callable[..., Any]) -> None:
    person = visit()
    person.photograph()
    person.page.get_by_text(re.compile(r"objects? in \S+ \(\d+ x \d+\)")).wait_for()


def test_a_video_plays_with_its_boxes(visit: Callable[..., Any], examples: Path) -> None:
    page = visit().page
    give(page, examples / "c-walk.mp4")
    page.get_by_text("1 track of 5 boxes in 5 frames of c-walk.mp4").wait_for()
    wait_for_rows(page, ("red", "1", "5 of 5"))
    played = """() => [...document.querySelectorAll("video")].some(
        video => video.checkVisibility() && video.videoWidth == 128 && video.readyState >= 2)"""
    page.wait_for_function(played, polling=POLL_MS)
    name, data = download(page, "Image")
    assert (name, data[4:8]) == ("c-walk-boxes.mp4", b"ftyp")


def test_an_example_and_another_model_beside_it(visit: Callable[..., Any]) -> None:
    person = visit()
    person.click_example(0)
    person.page.get_by_text("3 objects in a-pale.png").wait_for()
    person.choose("Compare with", "other")
    person.page.get_by_text(
        "Both see 1 object, with a mean IoU of 1.00; 2 only", exact=False
    ).wait_for()
    person.page.get_by_text("other (onnxruntime").wait_for()
    wait_for_pictures(person.page, 2)
    # Boxes and stages of the one, then of the other.
    other = "crimson traffic light"
    wait_for_rows(person.page, (other, "1.00"), (other, "0.60"), ("blue",), table=COMPARED)
    assert clipped(person.page) == []
    assert rows(person.page)[0][:2] == ["red", "1.00"]


def test_the_process_called_nobody_either(demo: Any, visit: Callable[..., Any]) -> None:
    visit()
    assert demo.contacted.read_text() == ""


def test_a_running_service_is_shown_as_well(
    visit: Callable[..., Any], front_end: str, start_demo: Callable[..., Any], service: Any,
    tiny_artifact: Artifact, examples: Path,
) -> None:  # fmt: skip
    beside = ("--compare", str(tiny_artifact.path))
    with start_demo(front_end, "--url", service.url, *beside) as running:
        page = visit(url=running.url).page
        give(page, examples / "a-pale.png")
        page.get_by_text("3 objects in a-pale.png").wait_for()
        page.get_by_text("Both see 3 objects").wait_for()
        assert [rows(page, COMPARED)[0][0], rows(page, 3)[-1][0]] == ["red", "total"]
        page.get_by_text(f"tiny at {service.url}").wait_for()
        assert "receive" in [row[0] for row in rows(page, 1)]
        assert running.contacted.read_text() == ""
