"""The report of ``seatrial compress int8`` as one self-contained page: no script, no request."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from markupsafe import Markup

from seatrial.accuracy.loss import Loss
from seatrial.conditions import condition_rows
from seatrial.quantise.report import QuantiseReport
from seatrial.report import svg
from seatrial.report.blocks import facts, heading, section, table, tiles
from seatrial.report.page import page as html_page

ROW_PX, TOP_PX, BOTTOM_PX = 26.0, 26.0, 40.0
LEFT_PX, PLOT_PX, RIGHT_PX = 300.0, 420.0, 130.0


class RecipeRow(msgspec.Struct, frozen=True):
    """One graph that was measured: name, finding, speed as text, and whether it was kept."""

    name: str
    finding: Loss
    speed: str
    kept: bool


def page(report: QuantiseReport) -> str:
    """The page's HTML."""
    shown = rows(report)
    verdict, _, figures = report.verdict.statement.partition(". ")
    title = f"INT8: {report.parent['name']} for {report.to}"
    return html_page(
        title,
        heading(
            f"Seatrial, {title}",
            f"{verdict.rstrip('.')}.",
            figures,
            f"Judged on {report.judged_on}.",
        ),
        _tiles(report),
        svg.element("h2", "What each graph loses"),
        svg.element(
            "figure",
            svg.element(
                "figcaption",
                f"Dot: as measured on {report.finding.images} images; line: "
                f"{report.finding.level:.0%} interval of a bootstrap over images; bold: what was "
                "kept, with its speed against float32.",
            ),
            chart(report, shown),
            class_="card scroll",
        ),
        svg.element("h2", "Figures"),
        _table(report, shown),
        section("Conditions", facts(_conditions(report))),
        svg.element("footer", *(svg.element("p", note) for note in _notes(report))),
    )


def rows(report: QuantiseReport) -> list[RecipeRow]:
    """One row for each recipe, then one for each restored layer of the kept recipe."""
    restored = bool(report.restored)
    found = [
        RecipeRow(one.recipe, one.finding, "", one.recipe == report.recipe and not restored)
        for one in report.candidates
    ]
    for number, one in enumerate(report.restored, 1):
        name = f"{'and' if number > 1 else 'float:'} {one.layer}"
        last = number == len(report.restored)
        found.append(RecipeRow(name, one.finding, f"{one.speed.ratio:.2f}x", last))
    if report.speed is not None:
        found = [
            msgspec.structs.replace(row, speed=f"{report.speed.ratio:.2f}x") if row.kept else row
            for row in found
        ]
    return found


def chart(report: QuantiseReport, shown: list[RecipeRow]) -> Markup:
    """Chart of the drop of each graph with its interval, and of the gate."""
    values = [0.0, report.gate.drop]
    values += [end for row in shown for end in (row.finding.low, row.finding.high)]
    low, high = min(values), max(values)
    spare = (high - low) * 0.04 or 0.001
    low, high = low - spare, high + spare
    height = TOP_PX + ROW_PX * len(shown) + BOTTOM_PX
    floor = height - BOTTOM_PX

    def x(value: float) -> float:
        return LEFT_PX + (value - low) / (high - low) * PLOT_PX

    parts = [
        svg.line(x(0), TOP_PX - 6, x(0), floor, "grid"),
        svg.line(x(report.gate.drop), TOP_PX - 6, x(report.gate.drop), floor, "knee"),
        svg.text(f"gate {report.gate.drop:g}", x(report.gate.drop), TOP_PX - 11, "kneelabel",
                 "middle"),
    ]  # fmt: skip
    for number, row in enumerate(shown):
        y, found = TOP_PX + ROW_PX * (number + 0.5), row.finding
        tip = f"{row.name}: {found.drop:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        colour = "s0" if row.kept else "s1"
        parts += [
            svg.text(_short(row.name), LEFT_PX - 14, y + 4, "value" if row.kept else "", "end"),
            svg.line(x(found.low), y, x(found.high), y, f"whisker {colour}"),
            svg.dot(x(found.drop), y, f"mark {colour}", tip, 4.5),
            svg.text(f"{found.drop:+.4f}  {row.speed}", LEFT_PX + PLOT_PX + 14, y + 4,
                     "value" if row.kept else ""),
        ]  # fmt: skip
    for value in _ticks(low, high):
        parts.append(svg.text(svg.plain(round(value, 6)), x(value), floor + 17, "tick", "middle"))
    axis = f"drop of {_metric(report)}: left is better"
    parts.append(svg.text(axis, LEFT_PX + PLOT_PX / 2, height - 4, "axis", "middle"))
    width = LEFT_PX + PLOT_PX + RIGHT_PX
    return svg.drawing(width, height, "Drop of each graph with its interval", parts)


def _tiles(report: QuantiseReport) -> Markup:
    finding, speed = report.finding, report.speed
    shift = "\u2013" if finding.mean_shift is None else f"{finding.mean_shift:+.4f}"
    size = "" if finding.mean_abs_shift is None else f"mean size {finding.mean_abs_shift:.4f}"
    ran = "not measured here" if speed is None else (
        f"{speed.parent_hz:.1f} \u2192 {speed.child_hz:.1f} images/s"
    )  # fmt: skip
    return tiles(
        (
            (f"Drop of {_metric(report)}", f"{finding.drop:+.4f}",
             f"{finding.parent:.4f} \u2192 {finding.child:.4f}"),
            ("Speed", "\u2013" if speed is None else f"{speed.ratio:.2f}x", ran),
            ("Shift of confidences", shift, size),
            ("INT8 layers", f"{report.quantised} of {report.convolutions}",
             f"{len(report.head)} operators of the head in float"),
        )
    )  # fmt: skip


def _table(report: QuantiseReport, shown: list[RecipeRow]) -> Markup:
    names = (
        "graph",
        _metric(report),
        "drop",
        "interval",
        "regained",
        "shift",
        "mean |shift|",
        "speed",
    )
    regained = ["" for _ in report.candidates] + [f"{value:+.4f}" for value in report.regained()]
    lines = []
    for row, gain in zip(shown, regained, strict=True):
        found = row.finding
        lines.append(
            (
                row.name,
                f"{found.child:.4f}",
                f"{found.drop:+.4f}",
                f"{found.low:+.4f} to {found.high:+.4f}",
                gain,
                "" if found.mean_shift is None else f"{found.mean_shift:+.4f}",
                "" if found.mean_abs_shift is None else f"{found.mean_abs_shift:.4f}",
                row.speed,
            )
        )
    return table(names, lines, [number for number, row in enumerate(shown) if row.kept])


def _conditions(report: QuantiseReport) -> Iterator[tuple[str, str]]:
    yield "parent", f"{report.parent['name']}, {report.parent['digest']}"
    for key, value in report.calibration.items():
        yield f"calibration {key}", str(value)
    yield from condition_rows(report.conditions)


def _notes(report: QuantiseReport) -> list[str]:
    ran = report.engine
    taken = report.calibration
    return [
        f"Compared in {ran['engine']} on {ran['device']}, {ran['precision']}. Ranges are of "
        f"{taken['pictures']} images in {taken['folder']}, seed {taken['seed']}.",
        *report.notes,
        *(f"skipped: {one.file}: {one.reason}" for one in report.skipped),
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Round values from low to high; 0 is one of them."""
    upward = svg.ticks(max(high, -low))
    return [
        value for value in (*(-tick for tick in upward[:0:-1]), *upward) if low <= value <= high
    ]


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"\u2026{name[-47:]}"


def _metric(report: QuantiseReport) -> str:
    return "AP" if report.finding.metric == "ap" else "agreement"
