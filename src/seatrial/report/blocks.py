"""The blocks that pages are made of: heading, tiles, table, verdict."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from markupsafe import Markup, escape

from seatrial.gate import WORDS, Outcome, Row, Verdict, titled
from seatrial.report.svg import element

OPTION = re.compile(r"((?<![\w-])--[a-z][a-z0-9-]*)")
# Outcome -> CSS class of its colour.
COLOURS: dict[Outcome, str] = {"holds": "good", "undecided": "warn", "fails": "bad"}


def heading(eyebrow: str, title: str, *lines: str) -> Markup:
    """The ``header`` of a page: what it is, its one sentence, and lines about it."""
    return element(
        "header",
        element("p", eyebrow, class_="eyebrow"),
        element("h1", title),
        *(element("p", unbroken(line), class_="meta") for line in lines if line),
    )


def section(title: str, *body: str, lead: str = "") -> Markup:
    """A title, a sentence on what follows, and what follows; nothing where nothing does."""
    if not any(body):
        return Markup()
    before = element("p", unbroken(lead), class_="lead") if lead else Markup()
    return Markup().join([element("h2", title), before, *body])


def tiles(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Key figures: name, value and a note below it."""
    made = [
        element("div", element("dt", name), element("dd", value, element("small", note)))
        for name, value, note in rows
    ]
    return element("dl", *made, class_="tiles card")


def table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    marked: Collection[int] = (),
    *,
    words: bool = False,
) -> Markup:
    """A table that scrolls where it is wider than the page; the first column is its names.

    Args:
        names: Titles of the columns.
        rows: Cells of each row.
        marked: Numbers of the rows that stand out, from 0.
        words: Whether cells hold words, not figures: they stand left and are broken.
    """
    lines = [
        element(
            "tr",
            *(element("td", cell) for cell in row),
            class_="knee-row" if number in marked else None,
        )
        for number, row in enumerate(rows)
    ]
    head = element("thead", element("tr", *(element("th", name) for name in names)))
    body = element("tbody", *lines)
    made = element("table", head, body, class_="words" if words else None)
    return element("div", made, class_="card scroll")


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """Names and values, one pair a line."""
    pairs = (
        part
        for name, value in rows
        for part in (element("dt", unbroken(name)), element("dd", unbroken(value)))
    )
    return element("section", element("dl", *pairs, class_="facts"), class_="card")


def unbroken(words: str) -> Markup:
    """Text in which no line ends inside the name of an option, such as ``--point-s``."""
    parts = (
        element("span", part, class_="option") if OPTION.fullmatch(part) else escape(part)
        for part in OPTION.split(words)
    )
    return Markup().join(parts)


def clauses(verdict: Verdict) -> Markup:
    """The rows of a verdict: clause and limit, outcome, what was found, and why it is open."""
    return element("ul", *map(_clause, verdict.rows), class_="clauses card")


def verdict_title(verdict: Verdict) -> str:
    """The verdict in a few words: ``The export holds``."""
    return f"{titled(verdict.name)} {WORDS[verdict.outcome]}"


def _clause(row: Row) -> Markup:
    notes = [row.reason[:1].upper() + row.reason[1:]] if row.reason else []
    if row.outcome == "undecided" and row.images_needed is not None:
        notes.append(f"About {row.images_needed:,} images would decide, if the value stays")
    wanted = f"{row.clause.label or row.clause.metric} {row.clause.wanted}"
    return element(
        "li",
        element("b", wanted),
        element("span", row.outcome, class_="outcome"),
        element("p", unbroken(row.text)),
        *(element("p", unbroken(f"{note}."), class_="why") for note in notes),
        class_=COLOURS[row.outcome],
    )
