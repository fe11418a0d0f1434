"""``--report FILE``: checked before the long work, and written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.cli.page import check_page, write_page
from seatrial.errors import InvalidInput, NotWritable


def test_folders_are_made_and_an_older_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "new" / "deep" / "page.html"
    check_page(page)
    for text in ("old", "new"):
        write_page(page, text)
    assert page.read_text() == "new"
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    check_page(None)


@pytest.mark.parametrize("name", ["photo.jpg", "labels.json", "model.onnx", "page"])
def test_a_page_has_the_name_of_a_page(tmp_path: Path, name: str) -> None:
    """A file that is read can therefore not be overwritten by a page."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidInput, match=f"an HTML page, not {name}") as refusal:
        check_page(tmp_path / name)
    assert refusal.value.hint == "name it .html"
    assert (tmp_path / name).read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.html").mkdir()
    for place in (tmp_path / "file" / "page.html", tmp_path / "folder.html"):
        with pytest.raises(NotWritable, match="cannot be written") as refusal:
            check_page(place)
        assert "--report" in refusal.value.hint
