"""Commands in pseudo terminals of 60 and 80 columns: every name and every figure is there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import seatrial
from forked_commands import Commands
from seatrial.artifact import Artifact, Store
from seatrial.cli import main

NAME = "a-detector-with-a-rather-long-name-as-exports-have-it"
ESCAPE = "\x1b"
ENGINE = ("--engine", "onnxruntime")
SLOW = ("onnxruntime", "cyclopts", "rich.table", "rich.progress", "numpy", "cv2", "msgspec")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands(*SLOW) as commands:
        yield commands


@pytest.fixture(scope="module")
def home(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a long name in it, two images, and a set with errors."""
    home = tmp_path_factory.mktemp("narrow")
    shutil.copytree(tiny_artifact.path, home / "artifacts" / "tiny")
    Store(home / "artifacts").tag("tiny", NAME)
    set_ = home / "set"
    set_.mkdir()
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    image.paste((255, 0, 0), (0, 0, 8, 8))
    names = ["first-image-with-a-long-name-as-cameras-write-them-0001.png", "b.png"]
    for name in names:
        image.save(set_ / name)
    size = {"width": 64, "height": 64}
    document = {
        "images": [{"id": i, "file_name": n, **size} for i, n in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [60, 60, 40, 40], "area": 1600,
             "iscrowd": 0}
            for i in range(2)
        ],
        "categories": [{"id": 1, "name": "red"}],
    }  # fmt: skip
    (set_ / "instances.json").write_text(json.dumps(document))
    return home


def shown(commands: Commands, home: Path, columns: int, *words: str | Path, **settings: str) -> str:
    """All that a command shows in a terminal."""
    environment = {**os.environ, "SEATRIAL_HOME": str(home), **settings}
    return commands.run_in_terminal(*words, environment=environment, columns=columns)[1]


@pytest.mark.parametrize("columns", [60, 80])
def test_tables_keep_names_and_figures(commands: Commands, home: Path, columns: int) -> None:
    images = sorted((home / "set").glob("*.png"))
    artifact = Artifact.open(home / "artifacts" / "tiny", verify=False)
    wanted: dict[tuple[str | Path, ...], list[str]] = {
        ("models", "list"): [f"({NAME})", "tiny", artifact.digest[:12], "64x64"],
        ("detect", images[1], "--model", "tiny", *ENGINE): ["red", "1.000", "0.0", "12.0"],
        ("detect", *images, "--model", "tiny", *ENGINE): [images[1].name, "1.000", "12.0"],
        ("data", "check", home / "set"): [images[1].name, "instances.json"],
    }
    if columns == 60:
        wanted["doctor",] = ["CPUExecutionProvider", str(home / "artifacts")]
    for words, texts in wanted.items():
        text = shown(commands, home, columns, *words, NO_COLOR="1")
        assert "Traceback" not in text
        for one in texts:
            assert one in text, (words, one, text)
        assert "…" not in text
        for line in text.splitlines():
            if line[:1] in "│┃┏└":
                assert len(line) <= columns, line


@pytest.mark.parametrize("columns", [60, 80])
def test_help_pages_keep_the_names_of_options(commands: Commands, home: Path, columns: int) -> None:
    for words in (["bench"], ["compress", "int8"], ["evaluate"], ["detect"], ["data", "split"]):
        app = main.build()
        for word in words:
            app = app[word]
        names = {
            name
            for one in app.assemble_argument_collection(parse_docstring=False)
            if one.show and not one.field_info.is_positional
            for name in one.names
            if not name.startswith(("--no-", "--empty-"))
        }
        text = shown(commands, home, columns, *words, "--help", NO_COLOR="1")
        assert names - {*re.findall(r"--?[a-z0-9-]+", text)} == set(), words
        assert "…" not in text


def test_no_color_and_dumb_terminals_get_plain_text(commands: Commands, home: Path) -> None:
    assert ESCAPE in shown(commands, home, 80, "models", "list")
    for settings in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        for words in (["models", "list"], ["doctor", "--help"]):
            assert ESCAPE not in shown(commands, home, 80, *words, **settings)
    text = shown(commands, home, 60, "data", "check", home / "set", TERM="dumb")
    assert ESCAPE not in text
    assert re.search(r"^\w+ing images", text, re.MULTILINE)  # a step is a line, not a bar


def test_a_pipe_gets_no_escapes_and_whole_lines(commands: Commands, home: Path) -> None:
    environment = {**os.environ, "SEATRIAL_HOME": str(home)}
    done = commands.run("data", "check", home / "set", environment=environment)
    assert ESCAPE not in done.stdout + done.stderr
    assert "first-image-with-a-long-name-as-cameras-write-them-0001.png" in done.stdout


def test_every_table_of_a_command_is_one_that_keeps_its_words() -> None:
    package = Path(seatrial.__file__).parent
    found = re.compile(r"^\s*(from rich import .*\btable\b|(from|import) rich\.table)", re.M)
    others = [p for p in package.rglob("*.py") if found.search(p.read_text())]
    assert [str(p.relative_to(package)) for p in others] == ["report/table.py"]
