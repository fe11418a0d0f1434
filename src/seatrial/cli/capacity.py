"""``seatrial capacity``: how many machines hold a rate, from the curve that one was measured at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import Parameter

from seatrial.bench.options import require_client
from seatrial.cli.console import command_line, err, out, print_json, progress
from seatrial.cli.page import check_page
from seatrial.contract import Contract
from seatrial.errors import GATE_FAILS, InvalidInput

if TYPE_CHECKING:
    from seatrial.trial.capacity import CapacityPlan


def capacity(
    report: Path,
    /,
    *,
    rate: float,
    contract: Path | None = None,
    percentile: Literal["p50", "p90", "p95", "p99"] | None = None,
    latency_limit_ms: float | None = None,
    arrivals: Literal["poisson", "constant", "bursts"] | None = None,
    machines_fail: int = 1,
    balancer: Literal["least-requests", "round-robin"] = "least-requests",
    lanes: int | None = None,
    seed: int = 0,
    json: bool = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Say how many machines hold a rate, from the measured latencies of one.

    A queue with lanes is fitted to the points of a benchmark and checked against them; then so
    many of it are simulated behind a balancer. Exit code 8: no number of machines holds the limit.

    Args:
        report: The report.json of seatrial bench.
        rate: Requests per second over all machines.
        contract: TOML file; the percentile, its limit and the arrival law are those of its table
            [server], else of [latency].
        percentile: Percentile that is judged [default: that of the contract, else p99].
        latency_limit_ms: Largest latency at that percentile, milliseconds [default: that of the
            contract].
        arrivals: Arrival law: poisson, constant, or bursts [default: that of the contract, else
            poisson].
        machines_fail: Number of machines that may be out at a time.
        balancer: Who gets the next request: the machine with the fewest in flight, or the next in
            turn.
        lanes: Requests that one machine serves at a time [default: as it says itself, else fitted].
        seed: Seed of the simulated requests.
        json: Print the plan as JSON.
        output: Page with tables and charts; a JSON file is written beside it.
    """
    require_client()
    from seatrial.bench.report import read_report, write_both
    from seatrial.conditions import conditions
    from seatrial.config import encode_json
    from seatrial.trial.capacity import plan_capacity
    from seatrial.trial.capacity_goal import CapacityGoal
    from seatrial.trial.capacity_page import to_html
    from seatrial.trial.capacity_points import (
        curve_of,
        lanes_of,
        left_out,
        refused_from_hz,
        shape_of,
    )

    check_page(output, inputs=[report, *([contract] if contract else [])])
    # What is wrong with a file is told before what is missing beside it.
    measured, limit = read_report(report), _limit(contract)
    if latency_limit_ms is None and limit is None:
        raise InvalidInput(
            "there is no limit to plan for",
            hint="give --contract contract.toml, or --latency-limit-ms and --percentile",
        )
    goal = CapacityGoal(
        rate_hz=rate,
        percentile=percentile or (limit[0] if limit else "p99"),
        at_most_ms=limit[1] if latency_limit_ms is None and limit else latency_limit_ms or 0.0,
        arrivals=arrivals or (limit[2] if limit else "poisson"),
        balancer=balancer,
        machines_fail=machines_fail,
    )
    made = conditions(command_line(), "numpy", "scipy")
    plan = plan_capacity(
        curve_of(measured),
        goal,
        lanes=lanes_of(measured) if lanes is None else lanes,
        shape=shape_of(measured),
        refused_hz=refused_from_hz(measured),
        source=str(report),
        caveats=left_out(measured),
        seed=seed,
        on_progress=progress,
    )
    plan = msgspec.structs.replace(plan, conditions=made)
    if json:
        print_json(plan)
    else:
        _show(plan)
    if output is not None:
        html, data = write_both(output, to_html(plan), encode_json(plan))
        err.print(f"wrote {html} and {data}", soft_wrap=True)
    if plan.machines is None:
        raise SystemExit(GATE_FAILS)


def _limit(contract: Path | None) -> tuple[str, float, str] | None:
    """Percentile, limit in ms and arrival law of a contract; None without one."""
    if contract is None:
        return None
    read = Contract.read(contract, judged=["server", "latency"])
    if read.server is not None:
        return read.server.percentile, read.server.at_most_ms, read.server.arrivals
    assert read.latency is not None  # noqa: S101 - one of the two sets a condition
    return read.latency.percentile, read.latency.at_most_ms, "poisson"


def _show(plan: CapacityPlan) -> None:
    from seatrial.trial.capacity_page import (
        CHECK_LEAD,
        checks_table,
        headline,
        margin_words,
        pooling_words,
        rows_table,
    )

    out.print(f"{headline(plan)}.")
    out.print(f"{margin_words(plan)}.")
    for caveat in plan.caveats:
        out.print(f"Read first: {caveat}.")
    out.print(rows_table(plan))
    if words := pooling_words(plan):
        out.print(f"{words}.\n")
    out.print(f"{CHECK_LEAD}.")
    out.print(checks_table(plan))
