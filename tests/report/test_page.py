"""The frame of reports: what the browser may do with the page, and that text stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from seatrial.report.page import head, page
from seatrial.report.style import css
from seatrial.report.svg import element


class Metas(HTMLParser):
    """Collects the attributes of all ``meta`` elements, and the data of ``title``."""

    def __init__(self) -> None:
        super().__init__()
        self.metas: list[dict[str, str | None]] = []
        self.title = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if tag == "meta":
            self.metas.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data
        self._inside = ""


def test_a_page_may_load_nothing_and_names_no_referrer() -> None:
    found = Metas()
    found.feed(head("INT8: small"))
    (policy,) = (one for one in found.metas if "http-equiv" in one)
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert {"name": "referrer", "content": "no-referrer"} in found.metas
    assert {"charset": "utf-8"} in found.metas
    assert found.title == "INT8: small"


def test_a_page_is_whole_and_holds_its_style_and_its_body_in_order() -> None:
    html = page("<b>", element("h1", "1 < 2"), element("p", "then"))
    assert html.startswith('<!doctype html>\n<html lang="en"><head>\n<meta charset="utf-8">')
    assert "<title>&lt;b&gt;</title>" in html
    assert f"<style>{css()}</style>" in html
    assert html.endswith("<body><main><h1>1 &lt; 2</h1><p>then</p></main></body></html>\n")
    assert not re.search(r"<script|<link", html)


def test_a_table_that_scrolls_has_a_shadow_where_more_lies_and_options_are_not_broken() -> None:
    html = page("x")
    (scroll,) = re.findall(r"^\.scroll \{(.*?)\}", html, re.DOTALL | re.MULTILINE)
    assert scroll.count(" local,") == scroll.count(" scroll,") == 2  # covers move, shadows stay
    assert re.search(r"\.option \{ white-space: nowrap; \}", html)
