"""The README's commands run, and what README and guides tell to install can be installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from documents import Reader, blocks
from packages import skip_without
from seatrial.artifact import Artifact
from seatrial.serve.address import free_port

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
INSTALL = re.compile(r"pip install (?:-c \S+ )?'\.\[([\w,-]+)\]'")
# What several commands import.
IMPORTED = (
    "cyclopts", "cv2", "PIL.Image", "rich.table", "rich.progress", "onnx", "openvino",
    "onnxruntime", "httptools", "bentoml", "seatrial.cli.main", "seatrial.cli.detect",
    "seatrial.cli.evaluate", "seatrial.cli.bench", "seatrial.cli.serve",
    "seatrial.accuracy.evaluate", "seatrial.serve.startup", "seatrial.bench.run",
)  # fmt: skip
TEMPLATES = sorted((ROOT / "src" / "seatrial" / "project" / "templates").iterdir())


def commands(block: str) -> list[str]:
    """The lines of a block without their comments."""
    lines = (re.sub(r"\s{2,}#.*", "", line).strip() for line in block.splitlines())
    return [line for line in lines if line]


@pytest.mark.slow
def test_every_command_of_the_readme_runs(
    ssd: Artifact,
    photos: dict[str, Path],
    tiny_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    skip_without("gradio", "bentoml", "httptools", "openvino", extra="all,demo")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    import onnx

    folder = tmp_path / "work"
    folder.mkdir()
    home = tmp_path / "home"
    # What pull and sample would download is there already: they find it.
    shutil.copytree(ssd.path, home / "artifacts" / "ssd-mobilenet-v2")
    shutil.copytree(photos["astronaut"].parent, folder / "photos")
    # What the page says to fetch from elsewhere.
    onnx.save(tiny_model(), folder / "yolo11n.onnx")
    _write_val2017(folder, photos["astronaut"], ssd.manifest.labels)
    serve, demo = free_port("127.0.0.1"), free_port("127.0.0.1")
    reader = Reader(
        folder,
        {},
        {"seatrial serve": serve, "seatrial demo": demo},
        {"SEATRIAL_HOME": str(home)},
    )
    two, steps, elsewhere = blocks(README)
    assert commands(two) == ["make run", "make test"]
    printed = {}
    ran = commands(steps)
    # tests/test_install.py runs it.
    assert ran.pop(0) == "pip install '.[all,demo]'"
    ran += commands(elsewhere)
    with contextlib.ExitStack() as running:
        running.enter_context(reader.forking(*IMPORTED))
        for command in ran:
            changed = (
                command.replace("--port 3000", f"--port {serve}")
                .replace("127.0.0.1:3000", f"127.0.0.1:{serve}")
                .replace("seatrial demo gradio", f"seatrial demo gradio --port {demo}")
                .replace(
                    "seatrial bench",
                    "seatrial bench --warmup-s 0.2 --point-s 0.5 --sessions 1 2 "
                    "--single-stream-s 1",
                )
            )
            if command.startswith("seatrial demo"):
                with reader.staying(changed):
                    pass
            elif command.startswith("seatrial serve"):
                running.enter_context(reader.staying(changed))
            else:
                printed[command] = reader.run(changed)
    assert "person" in printed["seatrial detect photos/astronaut.jpg --model ssd-mobilenet-v2 "
                               "--save boxes.jpg"]  # fmt: skip
    with Image.open(folder / "boxes.jpg") as drawn, Image.open(photos["astronaut"]) as photo:
        assert drawn.size == photo.size
    assert (folder / "report.html").is_file()
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert "person" in reader.run(f"{sys.executable} - <<'END'\n{example}END\n")
    assert (home / "artifacts" / "yolo11n").is_dir()


def _write_val2017(folder: Path, photo: Path, labels: tuple[str, ...]) -> None:
    (folder / "val2017").mkdir()
    shutil.copy(photo, folder / "val2017")
    with Image.open(photo) as image:
        width, height = image.size
    document = {
        "images": [{"id": 1, "file_name": photo.name, "width": width, "height": height}],
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(dict.fromkeys(labels))
        ],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": list(labels).index("person"), "iscrowd": 0,
                "bbox": [0, 0, width, height], "area": width * height,
            }
        ],
    }  # fmt: skip
    (folder / "instances_val2017.json").write_text(json.dumps(document))


def test_install_lines_name_extras_that_exist() -> None:
    named = {
        (page.name, extra)
        for page in PAGES
        for found in INSTALL.findall(page.read_text())
        for extra in found.split(",")
    }
    assert named, "no page says what to install"
    assert [(page, extra) for page, extra in named if extra not in EXTRAS] == []


@pytest.mark.parametrize("page", [*PAGES, *TEMPLATES], ids=lambda page: page.name)
def test_no_page_installs_from_an_index_that_does_not_have_it(page: Path) -> None:
    """Seatrial is in this repository only."""
    assert re.findall(r"(?:pip install|PACKAGE \?=)[^`\n]*\bseatrial\b", page.read_text()) == []


def test_the_readme_names_every_extra() -> None:
    text = README.read_text()
    table = text[text.index("| extra |") : text.index("A missing one is an error")]
    named = {*re.findall(r"`([\w-]+)`", "\n".join(re.findall(r"^\| (.+?) \|", table, re.M)))}
    assert {*EXTRAS} - {"test", "lint", "audit"} == named


def test_extras_that_extras_name_exist() -> None:
    for extra, requirements in EXTRAS.items():
        for requirement in requirements:
            for inner in re.findall(r"^seatrial\[([\w,-]+)\]", requirement):
                assert {*inner.split(",")} <= {*EXTRAS}, extra


def test_pinned_versions_are_what_the_project_takes() -> None:
    """Each requirement takes the version of constraints.txt, where it is pinned there."""
    requirements = pytest.importorskip("packaging.requirements", reason="packaging is missing")
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for text in [*PROJECT["dependencies"], *(one for many in EXTRAS.values() for one in many)]:
        requirement = requirements.Requirement(text)
        pinned = pins.get(requirement.name.lower().replace("_", "-"))
        if pinned is not None:
            assert requirement.specifier.contains(pinned), f"{text} and {pinned}"


def test_what_the_tests_import_is_in_the_extra() -> None:
    names = {re.match(r"[\w.-]+", text)[0] for text in EXTRAS["test"]}  # type: ignore[index]
    for package in ("pytest-xdist", "pytest-timeout", "pycocotools", "httpx"):
        assert package in names
        importlib.metadata.version(package)


def test_no_page_names_a_folder_that_is_gone() -> None:
    gone = re.compile(r"(?<!/)\b(?:seatrial[/.])?(?:lifecycle|request|lib)/\w*")
    for page in PAGES:
        if "decisions" in page.parts:  # they tell what was
            continue
        found = [name for name in gone.findall(page.read_text()) if not os.path.isabs(name)]
        assert found == [], page.name
