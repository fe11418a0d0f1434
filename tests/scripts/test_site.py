"""The documentation as a site: every page, every link, and no other host."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from browser import PHONE, WIDE
from script_modules import load_script

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "site"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_every_page_is_in_the_menu(script: ModuleType) -> None:
    def named(menu: Any) -> Iterator[str]:
        for item in menu:
            for target in item.values():
                yield from [target] if isinstance(target, str) else named(target)

    menu = list(named(tomllib.loads(f"nav = {script.navigation()}")["nav"]))
    assert {*menu} == {str(page.relative_to(ROOT)) for page in script.pages()}
    assert len({*menu}) == len(menu)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    bare = [sys.executable, "-I", "-S"]  # without installed packages
    done = subprocess.run([*bare, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: zensical is not installed\nhint: ")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("zensical", "mermaidx"):
        pytest.importorskip(package, reason=f"{package} is not installed: seatrial[docs]")
    folder = tmp_path_factory.mktemp("documentation")
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


class Elements(HTMLParser):
    """Links, what is loaded with a page, and anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a":
            self.links += [found["href"]] if "href" in found else []
        else:
            self.loaded += [found[key] for key in ("src", "href", "srcset") if key in found]


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path, script: ModuleType) -> None:
    pages = {path: Elements(path) for path in site.rglob("*.html")}
    assert len(pages) == len(script.pages()) + 1  # and the page for addresses that are not there
    wrong = []
    for page, elements in pages.items():
        if page.name == "404.html":  # made for the root of a server
            continue
        for target in elements.links + elements.loaded:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = place / "index.html" if place.is_dir() else place
            if not place.is_file() or (
                parts.fragment and place in pages and parts.fragment not in pages[place].anchors
            ):
                wrong.append(f"{page.relative_to(site)}: {target}")
    assert wrong == []
    loaded = {target for elements in pages.values() for target in elements.loaded}
    assert [target for target in loaded if urlsplit(target).netloc] == []


@pytest.mark.slow
def test_diagrams_are_drawn(site: Path) -> None:
    text = (site / "docs" / "concepts" / "architecture.html").read_text()
    assert text.count('class="diagram"') == 3
    assert "flowchart" not in text
    drawings = sorted((site / "docs" / "concepts").glob("*.svg"))
    assert len(drawings) == 3
    assert "accuracy" in drawings[0].read_text()


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_no_other_host_is_asked(site: Path, browser: Any, size: dict[str, int]) -> None:
    page = browser.new_page()
    page.set_viewport_size(size)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in ("index", "docs/concepts/architecture", "docs/reference/recipe"):
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    page.close()
    assert len(asked) > 10
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data", "about"}
    assert errors == []


@pytest.mark.slow
def test_the_search_works_from_a_disk(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.locator("input:focus").fill("letterbox")
    page.get_by_text(re.compile(r"^\d+ results$")).wait_for(timeout=30_000)
    page.close()


NARROW = """() => [...document.querySelector("article table").tBodies[0].rows].map((row) => {
    const box = row.lastElementChild.getBoundingClientRect();
    return [row.textContent.trim(), box.width, box.right];
})"""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "least_px"), [(WIDE, 300), (PHONE, 300)], ids=["wide", "phone"])
def test_sentences_beside_long_names_have_room(
    site: Path, browser: Any, size: dict[str, int], least_px: int
) -> None:
    """The names of the metrics are long: the column of sentences was 90 px wide."""
    page = browser.new_page()
    page.set_viewport_size(size)
    page.goto((site / "docs" / "reference" / "metrics.html").as_uri())
    rows = page.evaluate(NARROW)
    page.close()
    assert len(rows) > 30
    for text, width_px, right_px in rows:
        assert width_px >= least_px, text
        assert right_px <= size["width"], text
