"""The figures of a report's page, as a reader finds them."""

from __future__ import annotations

import re
from html import unescape


def tiles(html: str) -> dict[str, tuple[str, str]]:
    """Name of a key figure -> its value, and the note below it."""
    found = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)<small>([^<]*)</small></dd>", html)
    return {unescape(name): (unescape(value), unescape(note)) for name, value, note in found}


def columns(html: str, *names: str) -> list[tuple[str, ...]]:
    """The cells below some titles, row by row, of the first table that has them all."""
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        head, *rows = [_cells(row) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
        if set(names) <= set(head):
            return [tuple(row[head.index(name)] for name in names) for row in rows]
    raise AssertionError(f"no table has {', '.join(names)}")


def _cells(row: str) -> list[str]:
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
    return [unescape(re.sub("<[^>]+>", "", cell)) for cell in cells]
