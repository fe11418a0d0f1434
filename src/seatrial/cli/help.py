"""How help pages show options: defaults as they are typed, and no ``--no-x`` of what is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve
from cyclopts.help import DefaultFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions


def default_text(value: Any) -> str:
    """A default as it would be typed: ``1 2 4 8``; empty for off, nothing and no text."""
    if isinstance(value, tuple | list):
        return " ".join(map(default_text, value))
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


class HelpFormatter(DefaultFormatter):
    """Leaves out empty defaults, and the negative of a flag that is off; the latter is accepted."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one panel."""
        super().__call__(console, options, evolve(panel, entries=list(map(_short, panel.entries))))


def _short(entry: HelpEntry) -> HelpEntry:
    if entry.default:
        return entry
    negatives = () if entry.type is bool else entry.negative_names
    return evolve(entry, default=None, negative_names=negatives)
