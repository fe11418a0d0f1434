"""The verdict on a contract: a table for people, an exit code for scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from seatrial.cli.console import err, out
from seatrial.errors import GATE_FAILS
from seatrial.gate import WORDS, reasons
from seatrial.report.numbers import counted
from seatrial.report.table import Table

if TYPE_CHECKING:
    from seatrial.gate import Verdict

BROKEN = GATE_FAILS
UNDECIDED = 9  # exit code: measured, and the sample is too small to say
EXIT_CODES = {"holds": 0, "fails": BROKEN, "undecided": UNDECIDED}


def show_verdict(verdict: Verdict, *, json: bool) -> None:
    """Print the rows, unless they are in the JSON already, and the outcome."""
    if not json:
        table = Table(verdict.name, "wanted", "found", "verdict")
        for row in verdict.rows:
            wanted = f"{row.clause.label} {row.clause.wanted}".strip()
            table.add_row(row.clause.metric, wanted, row.text, row.outcome)
        out.print(table)
    for reason in reasons(verdict.rows):
        err.print(f"{reason}.", highlight=False)
    more = verdict.images_needed
    hint = "" if more is None else f": about {counted(more, 'image')} would decide"
    err.print(f"{verdict.name} {WORDS[verdict.outcome]}{hint}", highlight=False)


def leave(verdict: Verdict | None) -> None:
    """End the command with the verdict's exit code, if it is another than 0."""
    if verdict is not None and verdict.outcome != "holds":
        sys.exit(EXIT_CODES[verdict.outcome])
