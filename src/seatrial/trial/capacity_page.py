"""A capacity plan for people: tables, and a page with its two charts."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from seatrial.conditions import condition_rows
from seatrial.load.statistics import PERCENTILES
from seatrial.report import numbers, svg
from seatrial.report.blocks import facts, heading, section, table, tiles
from seatrial.report.numbers import counted, milliseconds, optional, per_second, percent
from seatrial.report.page import page as html_page
from seatrial.report.svg import element
from seatrial.report.table import Table
from seatrial.trial.capacity import CapacityPlan, CapacityRow
from seatrial.trial.capacity_goal import goal_words
from seatrial.trial.capacity_model import PointCheck

COLUMNS = ("machines", "hold up to", "each", "as so many single ones", "at the rate wanted", "")
CHECKS = ("measured load", "requests", *PERCENTILES)


def headline(plan: CapacityPlan) -> str:
    """The answer in one sentence."""
    wanted = goal_words(plan.goal)
    if plan.machines is None or plan.machines_bought is None:
        return f"No number of machines holds {wanted}: one without load is too slow"
    machines = f"{counted(plan.machines, 'machine')} {_verb(plan.machines, 'hold')} {wanted}"
    if plan.goal.machines_fail:
        out = counted(plan.goal.machines_fail, "machine")
        machines += f"; {plan.machines_bought} still do with {out} out"
    if not plan.firm:
        return f"As a hint at most, since the queue does not fit what was measured: {machines}"
    if plan.beyond > 1:
        machines += f" (each at {plan.beyond:.2f} times the highest measured rate)"
    return machines


def margin_words(plan: CapacityPlan) -> str:
    """The margin, and where it is from."""
    return f"Margin: all times {plan.margin:.1%} longer than fitted ({plan.margin_reason})"


def pooling_words(plan: CapacityPlan) -> str:
    """Gain of a balancer over machines that each take a share; empty where there is none."""
    last = plan.rows[-1]
    if last.machines == 1 or not last.multiple_hz:
        return ""
    gain = last.holds_hz / last.multiple_hz - 1
    return (
        f"{last.machines} machines behind one balancer hold {percent(gain)} more than "
        f"{last.machines} times one: where one has a queue, another is free"
    )


def rows_table(plan: CapacityPlan) -> Table:
    """Numbers of machines and what they hold, for the terminal."""
    made = Table(*COLUMNS)
    for row in plan.rows:
        made.add_row(*row_cells(plan, row))
    return made


def checks_table(plan: CapacityPlan) -> Table:
    """Measured points beside the simulation, for the terminal."""
    made = Table(*CHECKS)
    for one in plan.checks:
        made.add_row(*check_cells(one))
    return made


def row_cells(plan: CapacityPlan, row: CapacityRow) -> list[str]:
    """A number of machines in words."""
    mark = "holds" if row.holds else ""
    if row.machines == plan.machines_bought and plan.goal.machines_fail:
        mark = f"holds with {plan.goal.machines_fail} out"
    return [
        str(row.machines),
        per_second(row.holds_hz),
        per_second(row.holds_hz / row.machines),
        per_second(row.multiple_hz),
        optional(row.latency_ms, milliseconds),
        mark,
    ]


def check_cells(one: PointCheck) -> list[str]:
    """A measured point in words: simulated percentiles less the measured ones, in per cent."""
    cells = [one.load, f"{one.count:,}"]
    for name in PERCENTILES:
        error, measured = one.error(name), one.measured_ms.get(name)
        if error is None or measured is None:
            cells.append(numbers.MISSING)
        else:
            noise = one.noise[name]
            cells.append(f"{milliseconds(measured)} {error:+.1%} (\N{PLUS-MINUS SIGN}{noise:.1%})")
    return cells


CHECK_LEAD = (
    "Percentile as measured, and by how much the simulation of one machine differs from it; in "
    "brackets the standard deviation between simulated windows as long as the measured one"
)


def to_html(plan: CapacityPlan) -> str:
    """One self-contained page."""
    title = headline(plan)
    charts = [
        element("figure", element("h3", name), element("figcaption", caption), chart, class_="card")
        for name, caption, chart in _charts(plan)
    ]
    marked = [n for n, row in enumerate(plan.rows) if row.machines == plan.machines]
    return html_page(
        f"Seatrial capacity: {title}",
        heading("Capacity plan", f"{title}.", f"{margin_words(plan)}.", *_caveats(plan)),
        tiles(_figures(plan)),
        element("div", *charts, class_="charts apart"),
        section(
            "Machines",
            table(COLUMNS, (row_cells(plan, row) for row in plan.rows), marked),
            lead=pooling_words(plan) and f"{pooling_words(plan)}.",
        ),
        section(
            "The simulation against the measurement",
            table(CHECKS, map(check_cells, plan.checks)),
            lead=f"{CHECK_LEAD}.",
        ),
        section("Conditions", facts(_facts(plan))),
    )


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


def _caveats(plan: CapacityPlan) -> list[str]:
    return [f"{one[:1].upper()}{one[1:]}." for one in plan.caveats]


def _figures(plan: CapacityPlan) -> Iterator[tuple[str, str, str]]:
    goal = plan.goal
    yield "Machines", optional(plan.machines, str), f"for {per_second(goal.rate_hz)}"
    if goal.machines_fail:
        out = counted(goal.machines_fail, "machine")
        yield "With spare machines", optional(plan.machines_bought, str), f"{out} may be out"
    yield "One machine", per_second(plan.rows[0].holds_hz), "holds, with the margin"
    yield "Without pooling", optional(plan.naive_machines, str), "machines, by the rate of one"


def _charts(plan: CapacityPlan) -> Iterator[tuple[str, str, Markup]]:
    limit = f"{plan.goal.percentile} at most {milliseconds(plan.goal.at_most_ms)}"
    yield (
        "Rate that holds over machines",
        f"Requests per second with {limit}; dashed: as many times one machine",
        _machines_chart(plan),
    )
    yield (
        "Latency of one machine over its rate",
        f"{plan.goal.percentile}, ms: simulated (line), measured (points), limit (dashed)",
        _latency_chart(plan),
    )


def _machines_chart(plan: CapacityPlan) -> Markup:
    rows, rate_hz = plan.rows, plan.goal.rate_hz
    last = rows[-1]
    frame = svg.Frame(
        (0.0, float(last.machines)), svg.ceiling(max(last.holds_hz, rate_hz, 1e-6) * 1.05)
    )
    parts = frame.axes([row.machines for row in rows], "machines")
    alone = [(frame.x(0), frame.y(0)), (frame.x(last.machines), frame.y(last.multiple_hz))]
    parts.append(svg.polyline(alone, "ideal"))
    level = frame.y(rate_hz)
    parts.append(svg.line(frame.x(0), level, frame.x(last.machines), level, "knee"))
    parts.append(svg.text("wanted", frame.x(0) + 5, level - 5, "kneelabel"))
    places = [(frame.x(row.machines), frame.y(row.holds_hz)) for row in rows]
    parts.append(svg.polyline(places, "series s0"))
    for row, (x, y) in zip(rows, places, strict=True):
        tip = f"{counted(row.machines, 'machine')}: {per_second(row.holds_hz)}"
        parts.append(svg.dot(x, y, "mark s0", tip))
    return svg.drawing(frame.width, frame.height, "Rate that holds over machines", parts)


def _latency_chart(plan: CapacityPlan) -> Markup:
    name, limit_ms = plan.goal.percentile, plan.goal.at_most_ms
    measured = [
        (one.rate_hz, one.measured_ms[name])
        for one in plan.checks
        if one.rate_hz is not None and one.measured_ms.get(name, 4 * limit_ms) <= 3 * limit_ms
    ]
    highest = max([limit_ms, *(value for _, value in (*plan.curve, *measured))])
    last_hz = max([1e-6, *(rate for rate, _ in (*plan.curve, *measured))])
    frame = svg.Frame((0.0, last_hz * 1.05), svg.ceiling(highest * 1.05))
    parts = frame.axes(svg.ticks(last_hz * 1.05, 5), "requests per second on one machine")
    level = frame.y(limit_ms)
    parts.append(svg.line(frame.left, level, frame.width - frame.right, level, "knee"))
    line = [(frame.x(rate), frame.y(value)) for rate, value in plan.curve]
    parts.append(svg.polyline(line, "series s0"))
    for rate_hz, value_ms in measured:
        tip = f"measured at {per_second(rate_hz)}: {milliseconds(value_ms)}"
        parts.append(svg.dot(frame.x(rate_hz), frame.y(value_ms), "mark s1", tip))
    return svg.drawing(frame.width, frame.height, "Latency of one machine over its rate", parts)


def _facts(plan: CapacityPlan) -> Iterator[tuple[str, str]]:
    model, goal = plan.model, plan.goal
    yield "measured curve", plan.source or numbers.MISSING
    yield "arrivals", goal.arrivals
    yield "balancer", goal.balancer
    yield (
        "one machine",
        f"{counted(model.lanes, 'lane')}, {milliseconds(model.service_ms)} a request (log-spread "
        f"{model.spread:.2f}; {model.alone:.2f} of it on an empty machine), "
        f"{milliseconds(model.overhead_ms)} beside the lanes; saturated at "
        f"{per_second(model.saturation_hz)}",
    )
    yield from condition_rows(plan.conditions)
