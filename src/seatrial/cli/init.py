"""``seatrial init``: a project of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json


def init(
    folder: Path,
    /,
    *,
    trainer: Literal["transformers", "lightning", "ultralytics"] = "transformers",
    base: Annotated[str, Parameter(name="--from")] = "",
    name: str = "",
    json: bool = False,
) -> None:
    """Write a project: recipe, contract, deployment, Makefile, CI, README.

    Its Makefile goes the whole way: data, check, finetune, accelerate, judge, serve, measure.

    Args:
        folder: Made; must be new or empty.
        trainer: What it trains with; ultralytics is licensed under AGPL-3.0.
        base: What is finetuned: a model on a hub, an artifact's name, a file
            [default: D-FINE nano; YOLO11n with ultralytics].
        name: Of the artifacts it makes [default: the folder's].
        json: Print the files as JSON.
    """
    from seatrial.project.project import Choices, create

    written = create(folder, Choices(name or folder.absolute().name.lower(), trainer, base))
    if json:
        print_json([str(path) for path in written])
        return
    for path in written:
        out.print(str(path), soft_wrap=True, highlight=False)
    err.print(f"cd {folder} && make", style="dim", highlight=False)
