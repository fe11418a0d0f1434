"""Telling a verdict: a table for people, an exit code for scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.table import Table

from seatrial.cli.console import err, out

if TYPE_CHECKING:
    from seatrial.trial.verdict import Verdict

BROKEN = 8  # exit code: measured, and the contract does not hold
UNDECIDED = 9  # exit code: measured, and the sample is too small to say
EXIT_CODES = {"holds": 0, "fails": BROKEN, "undecided": UNDECIDED}


def show_verdict(verdict: Verdict, *, json: bool) -> None:
    """Print the rulings, unless they are in the JSON already, and the outcome."""
    if not verdict.rulings:
        err.print(f"{verdict.contract} asks for nothing that was measured", highlight=False)
        return
    if not json:
        table = Table(verdict.contract, "wanted", "found", "verdict")
        for ruling in verdict.rulings:
            table.add_row(ruling.clause, ruling.wanted, ruling.found, ruling.outcome)
        out.print(table)
    words = {"holds": "holds", "fails": "does not hold", "undecided": "cannot be decided"}
    err.print(f"{verdict.contract} {words[verdict.outcome]}", highlight=False)


def leave(verdict: Verdict | None) -> None:
    """End the command with the verdict's exit code, if it is another than 0."""
    if verdict is not None and verdict.outcome != "holds":
        sys.exit(EXIT_CODES[verdict.outcome])
