"""The frame of every report: one page that runs no script and sends no request."""

from __future__ import annotations

from markupsafe import Markup

from seatrial.report.style import css
from seatrial.report.svg import element

HEAD = Markup("""\
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
img-src data:">
<title>{title}</title>
<style>{css}</style>
</head>
""")


def head(title: str) -> Markup:
    """The ``head`` element: title, style sheet, and a policy that lets the page load nothing."""
    return HEAD.format(title=title, css=css())


def page(title: str, *body: Markup) -> str:
    """A whole page as HTML, with its elements in order."""
    html = element("html", head(title), element("body", element("main", *body)), lang="en")
    return f"<!doctype html>\n{html}\n"
