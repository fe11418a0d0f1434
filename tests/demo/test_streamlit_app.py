"""The Streamlit page, run by Streamlit's own test runner; test_browser.py has it in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from packages import Later, skip_without
from seatrial.demo.examples import find_examples
from seatrial.demo.page import WELCOME
from seatrial.demo.workbench import Workbench

streamlit_app = Later("seatrial.demo.streamlit_app")
testing = Later("streamlit.testing.v1.app_test")
SECONDS = 120


@pytest.fixture(scope="module", autouse=True)
def clean() -> Iterator[None]:
    """The test runner keeps a folder until the interpreter ends."""
    skip_without("streamlit", extra="demo")
    yield
    testing.TMP_DIR.cleanup()


@pytest.fixture
def page(workbench: Workbench, tmp_path: Path, pale: Any, encode: Callable[..., bytes]) -> Any:
    """The page, with a picture and a damaged file to click."""
    (tmp_path / "pale.png").write_bytes(encode(pale(), "PNG"))
    examples = find_examples(tmp_path)
    streamlit_app.create_app(workbench, examples)
    return testing.AppTest.from_file(streamlit_app.__file__, default_timeout=SECONDS).run()


def text(page: Any) -> str:
    return " ".join(element.value for element in page.markdown)


def test_the_page_begins_with_what_to_do(page: Any) -> None:
    assert not page.exception
    assert any("<h1>tiny</h1>" in element.proto.body for element in page.get("html"))
    assert [element.value for element in page.info] == [WELCOME]


def test_an_example_and_the_settings(page: Any) -> None:
    page.button(key="example 0").click().run()
    assert not page.exception
    assert "3 objects in pale.png (128 x 128)." in text(page)
    page.slider[0].set_value(0.5).run()
    assert "2 objects in pale.png" in text(page)
    page.slider[1].set_value(0.2).run()
    assert "1 object in pale.png" in text(page)
    page.slider[0].set_value(0.25).run()
    page.multiselect[0].set_value(["blue"]).run()
    assert "1 object in pale.png" in text(page)


def test_another_model_beside_it(page: Any) -> None:
    page.button(key="example 0").click().run()
    page.selectbox[0].set_value("again").run()
    assert not page.exception
    assert "Both see 3 objects, with a mean IoU of 1.00; 0 only tiny, 0 only again." in text(page)


def test_a_file_that_is_refused_is_an_error_on_the_page(page: Any, tmp_path: Path) -> None:
    (tmp_path / "pale.png").write_bytes(b"nothing")
    page.button(key="example 0").click().run()
    assert not page.exception
    assert "neither an image nor a video" in page.error[0].value
