"""The verdict on a contract: a table for people, JSON and an exit code for scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from seatrial.accuracy.gate import WORDS
from seatrial.cli.console import err, out

if TYPE_CHECKING:
    from seatrial.accuracy.gate import Clause, Verdict

BROKEN = 8  # exit code: measured, and the contract does not hold
UNDECIDED = 9  # exit code: measured, and the sample is too small to say
EXIT_CODES = {"holds": 0, "fails": BROKEN, "undecided": UNDECIDED}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as it stands in the JSON of a command."""
    rulings = [
        {
            "clause": row.clause.metric,
            "wanted": _wanted(row.clause),
            "found": row.text,
            "outcome": row.outcome,
            "limit": row.clause.limit,
            "measured": row.measured,
            "low": row.low,
            "high": row.high,
        }
        for row in verdict.rows
    ]
    return {"contract": verdict.name, "outcome": verdict.outcome, "rulings": rulings}


def show_verdict(verdict: Verdict, *, json: bool) -> None:
    """Print the rows, unless they are in the JSON already, and the outcome."""
    if not json:
        table = Table(verdict.name, "wanted", "found", "verdict")
        for row in verdict.rows:
            table.add_row(row.clause.metric, _wanted(row.clause), row.text, row.outcome)
        out.print(table)
    more = verdict.images_needed
    hint = "" if more is None else f": about {more:,} images would decide"
    err.print(f"{verdict.name} {WORDS[verdict.outcome]}{hint}", highlight=False)


def leave(verdict: Verdict | None) -> None:
    """End the command with the verdict's exit code, if it is another than 0."""
    if verdict is not None and verdict.outcome != "holds":
        sys.exit(EXIT_CODES[verdict.outcome])


def _wanted(clause: Clause) -> str:
    return f"{clause.label} {clause.wanted}".strip()
