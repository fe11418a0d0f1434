"""The style sheet of every report."""

from __future__ import annotations

from importlib import resources

from markupsafe import Markup


def css() -> Markup:
    """The style sheet, to be put into a page."""
    text = (resources.files("seatrial.report") / "style.css").read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  a file of this package, not input
