"""The report of a command as a page: ``--report FILE``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seatrial.cli.console import err
from seatrial.errors import InvalidInput
from seatrial.system.files import check_place, write_atomically, writing

HINT = "name another file (--report)"
SUFFIXES = (".html", ".htm")


def check_page(page: Path | None, *, inputs: Iterable[Path] = ()) -> None:
    """Check, before the long work, that the page can be made and written.

    Args:
        page: The file; None for no page.
        inputs: Files and folders that are read, see `check_place`.

    Raises:
        InvalidInput: Its name is not that of a page, or it is one of the inputs.
        NotWritable: The place cannot be written to.
    """
    if page is None:
        return
    if page.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"a report is an HTML page, not {page.name}", hint="name it .html")
    with writing(page, hint=HINT):
        page.parent.mkdir(parents=True, exist_ok=True)
    check_place(page, hint=HINT, inputs=inputs)


def write_page(page: Path, html: str) -> None:
    """Write the page, and say so; a file that was there before is replaced.

    Raises:
        NotWritable: The place cannot be written to.
    """
    with writing(page, hint=HINT):
        write_atomically(page, html.encode())
    err.print(f"wrote {page}", soft_wrap=True)
