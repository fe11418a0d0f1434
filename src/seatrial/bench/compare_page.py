"""A comparison as JSON and as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from seatrial.bench.compare_options import PER_SECOND
from seatrial.bench.compare_report import (
    CompareReport,
    Contender,
    Contrast,
    Shift,
    decile_names,
    fit_rounds,
)
from seatrial.bench.compare_terminal import COLUMNS, caption, cells_of
from seatrial.bench.compare_words import change, figure_words, interval_words, names_of, signed
from seatrial.bench.report import conditions_of, model_rows, write_both
from seatrial.bench.side_by_side_page import flat
from seatrial.conditions import condition_rows
from seatrial.config import encode_json
from seatrial.report import numbers, svg
from seatrial.report.blocks import clauses, facts, heading, section, table, unbroken, verdict_title
from seatrial.report.page import page
from seatrial.report.svg import element

SHIFT_LEAD = (
    "By how much each decile of latency differs: 10% stands for the fastest requests, 90% for the "
    "slowest. A level line: slower by one factor for all. A line that rises: slower where they "
    "are long. Each interval is that of its decile alone."
)
ROUNDS_LEAD = "A dot is the difference in one round; the line is the interval over all of them."


def write_comparison(report: CompareReport, html: Path) -> tuple[Path, Path]:
    """Write the page, and the JSON beside it; see `seatrial.bench.report.write_report`."""
    return write_both(html, to_html(report), encode_json(report))


def to_html(report: CompareReport) -> str:
    """The page: no script, no request from outside."""
    machine = report.environment
    return page(
        f"Seatrial comparison: {names_of(report.contenders)}",
        heading(
            "Seatrial comparison",
            " ".join(report.statements),
            f"{report.load} \N{MIDDLE DOT} {numbers.date(report.created_at)} \N{MIDDLE DOT} "
            f"{machine.cpu.model}, {machine.cpu.cores} usable of {machine.cpu.cores_online} cores",
        ),
        _caveats(report.caveats),
        _verdict(report),
        _unlike(report),
        section("All figures", _table(report), lead=f"{caption(report)}.".capitalize()),
        section("Rounds", *_rounds(report), lead=ROUNDS_LEAD),
        section(
            "Deciles of latency",
            *(_figure(f"{one.label} against A", shift_chart(one)) for one in report.shifts),
            lead=SHIFT_LEAD,
        ),
        *(section(one.title, facts(_contender(one))) for one in report.contenders),
        section("Conditions", facts(_conditions(report))),
    )


def _caveats(rows: Sequence[str]) -> Markup:
    if not rows:
        return Markup()
    items = (element("li", unbroken(row), class_="warn") for row in rows)
    return element("ul", *items, class_="findings card caveats")


def _verdict(report: CompareReport) -> Markup:
    if report.verdict is None:
        return Markup()
    return section(verdict_title(report.verdict), clauses(report.verdict))


def _unlike(report: CompareReport) -> Markup:
    """Facts of the services that are not alike."""
    facts_of = [dict(_contender(one)) for one in report.contenders]
    names = dict.fromkeys(name for one in facts_of for name in one)
    rows = [
        (name, *(one.get(name, "\N{EN DASH}") for one in facts_of))
        for name in names
        if len({one.get(name) for one in facts_of}) > 1
    ]
    if not rows:
        return Markup()
    labels = [one.label for one in report.contenders]
    return section("What differs", table(["", *labels], rows, words=True))


def _table(report: CompareReport) -> Markup:
    marked = [n for n, one in enumerate(report.contrasts) if one.figure == report.figure]
    return table(COLUMNS, [cells_of(one) for one in report.contrasts], marked)


def _figure(title: str, drawn: Markup) -> Markup:
    inner = element("div", drawn, class_="scroll")
    return element("figure", element("h3", title), inner, class_="card")


def _rounds(report: CompareReport) -> Iterator[Markup]:
    for one in report.deciding:
        if one.rounds:
            yield _figure(f"{one.label} against A, {figure_words(one.figure)}", rounds_chart(one))


def rounds_chart(one: Contrast) -> Markup:
    """The difference in each round, over the rounds, and the interval over all."""
    lower = min(*one.rounds, one.ratio.low, 1.0)
    upper = max(*one.rounds, one.ratio.high, 1.0)
    area = _Area(lower, upper, len(one.rounds))
    parts = [*area.levels()]
    for n, ratio in enumerate(one.rounds):
        tip = f"round {n + 1}: {signed(ratio)}"
        parts.append(svg.dot(area.x(n), area.y(ratio), "mark s0", tip))
        parts.append(svg.text(str(n + 1), area.x(n), area.height - 22, "tick", "middle"))
    right = area.width - 10
    parts.append(
        svg.line(right, area.y(one.ratio.low), right, area.y(one.ratio.high), "whisker s1")
    )
    tip = f"{change(one.ratio)}, {interval_words(one.ratio)}"
    parts.append(svg.dot(right, area.y(one.ratio.ratio), "mark s1", tip))
    parts.append(svg.text("round", area.width / 2, area.height - 4, "axis", "middle"))
    return svg.drawing(area.width, area.height, "Difference in each round", parts)


def shift_chart(shift: Shift) -> Markup:
    """The shift function: the difference of each decile with its interval."""
    lower = min(1.0, *(one.low for one in shift.ratios))
    upper = max(1.0, *(one.high for one in shift.ratios))
    area = _Area(lower, upper, len(shift.ratios))
    parts = [*area.levels()]
    places = [(area.x(n), area.y(one.ratio)) for n, one in enumerate(shift.ratios)]
    parts.append(svg.polyline(places, "series s0"))
    rows = zip(decile_names(), places, shift.ratios, shift.base_ms, strict=True)
    for name, (x, y), one, base_ms in rows:
        parts.append(svg.line(x, area.y(one.low), x, area.y(one.high), "whisker s0"))
        tip = f"{name}, {numbers.milliseconds(base_ms)}: {change(one)}, {interval_words(one)}"
        parts.append(svg.dot(x, y, "mark s0", tip))
        parts.append(svg.text(name, x, area.height - 22, "tick", "middle"))
    parts.append(svg.text("decile of latency", area.width / 2, area.height - 4, "axis", "middle"))
    return svg.drawing(area.width, area.height, "Difference of each decile", parts)


class _Area:
    """A plotting area whose vertical axis holds ratios as differences in per cent."""

    width, height, left, right, top, bottom = 640.0, 240.0, 54.0, 34.0, 12.0, 42.0

    def __init__(self, lower: float, upper: float, count: int) -> None:
        pad = max((upper - lower) * 0.08, 0.002)
        self.lower, self.upper, self.count = lower - pad, upper + pad, count

    def x(self, number: int) -> float:
        """Horizontal place of a column."""
        inner = self.width - self.left - self.right
        return self.left + inner * (number + 0.5) / self.count

    def y(self, ratio: float) -> float:
        """Vertical place of a ratio."""
        share = (ratio - self.lower) / (self.upper - self.lower)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def levels(self) -> Iterator[Markup]:
        """Lines at round differences, each with its words; the one of no difference stands out."""
        span = 100 * (self.upper - self.lower)
        step = svg.ticks(span)[1]
        first = int(100 * (self.lower - 1) / step) - 1
        for n in range(first, first + int(span / step) + 4):
            ratio = 1 + n * step / 100
            if self.lower <= ratio <= self.upper:
                class_ = "ideal" if n == 0 else "grid"
                level = self.y(ratio)
                yield svg.line(self.left, level, self.width - self.right, level, class_)
                words = f"{svg.plain(n * step)}%" if n <= 0 else f"+{svg.plain(n * step)}%"
                yield svg.text(words, self.left - 7, level + 4, "tick", "end")


def _contender(one: Contender) -> Iterator[tuple[str, str]]:
    yield "given as", one.name
    yield "kind", one.kind
    yield from flat(one.deployment or {})
    yield from model_rows(one.model)


def _conditions(report: CompareReport) -> Iterator[tuple[str, str]]:
    images, options = report.images, report.options
    yield "load", report.load
    yield "images", f"{images.folder}: {images.used} of {images.found}, seed {images.seed}"
    yield "digest of the images", images.digest
    if options is not None:
        rounds = fit_rounds(report.blocks)
        used = len(next(iter(rounds.values()), []))
        yield "rounds", f"{used} of {options.rounds}, in the order A B B A"
        warmup = numbers.seconds(options.warmup_s)
        yield "blocks", f"{numbers.seconds(options.block_s)}, after {warmup} of warm-up"
        yield "started anew for each round", "yes" if options.restart else "no"
        yield "took", numbers.seconds(report.elapsed_s)
    decides = "higher is better" if report.figure in PER_SECOND else "lower is better"
    yield "decides", f"{figure_words(report.figure)}, {decides}"
    made = conditions_of(report.created_at, report.command, report.environment)
    yield from condition_rows(made)
