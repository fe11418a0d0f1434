"""The pages of the documentation: an index leads to each, and their links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs" / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "RESULTS.md",
    *DOCS,
]
CODE = re.compile(r"^ *(```|~~~).*?^ *\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|\b(?:href|src)=\"([^\"]+)\"|^\[[^\]]+\]: *(\S+)", re.M)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")


def links(text: str) -> list[str]:
    """Targets of the links and images of a page, but for those in code and on other hosts."""
    found = ["".join(groups) for groups in LINK.findall(CODE.sub("", text))]
    return [target for target in found if not ELSEWHERE.match(target)]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    made: set[str] = set()
    for heading in HEADING.findall(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        number = 1
        while (numbered := anchor if number == 1 else f"{anchor}-{number - 1}") in made:
            number += 1
        made.add(numbered)
    return made


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for target in links(text):
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        there = place.is_file() and place.is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors(place.read_text(encoding="utf-8"))):
            wrong.append(target)
    return wrong


def led_to(start: Path) -> set[Path]:
    """The pages that links lead to, from a page on."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        targets = [target.partition("#")[0] for target in links(page.read_text(encoding="utf-8"))]
        waiting += [(page.parent / target).resolve() for target in targets if target]
    return seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](guides/demo.md)", []),
        ("[a](guides/demo.md#on-a-phone)", []),
        ("![a](images/report.png)", []),
        ('<img src="images/report.png">', []),
        ("[a](https://example.org/x.md)", []),
        ("`[a](none.md)`\n\n```text\n[a](none.md)\n```\n", []),
        ("[a](none.md)", ["none.md"]),
        ("[a](guides/demo.md#nowhere)", ["guides/demo.md#nowhere"]),
        ("[a](#tutorial) [a](#nowhere)", ["#nowhere"]),
        ("[a](guides)", ["guides"]),  # a folder is no page of the site
        ("[a][b]\n\n[b]: none.md\n", ["none.md"]),
        ('<a href="none.md">a</a>', ["none.md"]),
        ("![a](images/none.png)", ["images/none.png"]),
        ("[a](../../outside.md)", ["../../outside.md"]),
    ],
)
def test_what_a_broken_link_is(text: str, wrong: list[str]) -> None:
    assert broken(INDEX, text) == wrong


def test_anchors_are_those_of_github() -> None:
    text = (
        "# The `--x` of *a_b*, 1.2\n## Again\n## Again\n```sh\n# not this\n```\n## [To](b.md) it\n"
    )
    assert anchors(text) == {"the---x-of-a_b-12", "again", "again-1", "to-it"}


@pytest.mark.parametrize("start", [INDEX, ROOT / "README.md"], ids=["docs", "README"])
def test_an_index_leads_to_every_page(start: Path) -> None:
    assert {*PAGES} - led_to(start) == set()


def test_the_index_names_every_page_itself() -> None:
    """But for decisions, which have an index of their own."""
    decisions = {path for path in DOCS if path.parent.name == "decisions"}
    for index, pages in (
        (INDEX, {*DOCS} - decisions | {ROOT / "docs" / "decisions" / "README.md"}),
        (ROOT / "docs" / "decisions" / "README.md", decisions),
    ):
        named = {(index.parent / target).resolve() for target in links(index.read_text())}
        assert pages - named - {index} == set()


def test_every_image_is_shown() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in links(page.read_text(encoding="utf-8"))
    }
    assert {*(ROOT / "docs" / "images").iterdir()} - shown == set()


def test_the_wheel_holds_every_page_in_its_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {source: f"seatrial/documentation/{source}" for source in included}
    held = [ROOT / source for source in included]
    assert [page for page in PAGES if not any(page.is_relative_to(source) for source in held)] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("0*.md"))]
    assert len({*numbers}) == len(numbers)
