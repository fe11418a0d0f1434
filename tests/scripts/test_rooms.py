"""The page of the architecture: its drawing is that of the source, and its files are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from script_modules import load_script

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "seatrial"
SCRIPT = ROOT / "scripts" / "rooms"
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
TEXT = PAGE.read_text()


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    return load_script(SCRIPT)


def test_the_drawing_is_that_of_the_source() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_arrows_that_follow_from_others_are_left_out(rooms: ModuleType) -> None:
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"c"}}
    assert rooms.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"c"}}


def test_every_room_is_in_the_table(rooms: ModuleType) -> None:
    table = TEXT[TEXT.index("| room |") : TEXT.index("## The way of one request")]
    named = {*re.findall(r"`(\w+)/?`", "\n".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)))}
    assert named == {*rooms.imports()}


def test_the_files_are_there() -> None:
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", TEXT):
        place = ROOT / name if name.startswith(("tests/", "seatrial/")) else SOURCE / name
        if name.startswith("seatrial/"):
            place = ROOT / "src" / name
        if name.startswith("families/"):
            place = SOURCE / "detect" / name
        assert place.is_file(), name


def test_the_tables_are_there() -> None:
    for table, name in re.findall(r"`([A-Z_]+)` in `([a-z_/]+)`", TEXT):
        place = next(
            path for path in (SOURCE / name, ROOT / name, ROOT / "src" / name) if path.exists()
        )
        assert re.search(rf"^{table}\b", place.read_text(), re.MULTILINE), f"{table} in {name}"
