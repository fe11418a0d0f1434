"""The report of ``seatrial export`` as one self-contained page: no script, no request."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from markupsafe import Markup

from seatrial.accuracy.html_report import comparison
from seatrial.conditions import condition_rows
from seatrial.export.report import ComparedSide, ExportReport
from seatrial.export.rows import compared_rows, layer_rows
from seatrial.gate import WORDS
from seatrial.report.blocks import facts, heading, section, table
from seatrial.report.numbers import counted
from seatrial.report.page import page as html_page


def page(report: ExportReport) -> str:
    """The page's HTML."""
    child, parent = report.child, report.parent
    return html_page(
        f"Seatrial export: {child.artifact}",
        heading(
            "Seatrial export",
            f"{child.artifact} {WORDS[report.verdict.outcome]} against {parent.artifact}.",
            f"Both on the same {counted(report.images, 'image')}: {_ran(parent)} and {_ran(child)}",
            "" if report.verdict.outcome == "holds" else report.verdict.statement,
        ),
        section(
            "What was compared",
            table(("compared", "found", "allowed"), compared_rows(report), words=True),
        ),
        *_layers(report),
        *comparison(msgspec.structs.replace(report.boxes, ap=report.accuracy), None),
        section("Conditions", facts(_conditions(report))),
    )


def _layers(report: ExportReport) -> Iterator[Markup]:
    if report.first_difference is not None:
        names = ("layers", "operator", "node", "relative error")
        rows = layer_rows(report.first_difference)
        yield section("Where the graphs begin to differ", table(names, rows, words=True))


def _conditions(report: ExportReport) -> Iterator[tuple[str, str]]:
    for what, side in (("parent", report.parent), ("export", report.child)):
        yield what, side.artifact
        if side.digest:  # a child that failed has none
            yield f"digest of the {what}", side.digest
        yield f"{what} ran on", _ran(side)
    if report.folder:
        yield "images", f"{report.folder}, {counted(report.images, 'image')} of it"
        yield "digest of the images", report.images_digest
    for key, value in report.options.items():
        if value is not None:
            yield f"option {key}", str(value)
    yield from condition_rows(report.conditions)
    for note in report.notes:
        yield "note", note


def _ran(side: ComparedSide) -> str:
    return " ".join(part for part in (side.engine, side.version, side.precision) if part)
