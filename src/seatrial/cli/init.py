"""``seatrial init``: the files of a new project."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json
from seatrial.errors import InvalidInput
from seatrial.manifest import check_name


def init(
    folder: Path,
    /,
    *,
    trainer: Literal["transformers", "lightning", "ultralytics"] = "transformers",
    base: Annotated[str, Parameter(name="--from")] = "",
    name: str | None = None,
    json: bool = False,
) -> None:
    """Write a new project: recipe, contract, deployment, Makefile, CI, README.

    Its Makefile has a target for each step: data, check, finetune, accelerate, judge, trial,
    serve, measure.

    Args:
        folder: New or empty folder.
        trainer: Trainer of the project; ultralytics is licensed under AGPL-3.0.
        base: Model to finetune: a model on a hub, an artifact's name, or a file
            [default: D-FINE nano; YOLO11n with ultralytics].
        name: Name of the artifacts that the project makes [default: the folder's name].
        json: Print the paths of the files as JSON.
    """
    from seatrial.project.project import ProjectOptions, create

    if name is None:
        name = _name_of(folder)
    written = create(folder, ProjectOptions(name=name, trainer=trainer, base=base))
    if json:
        print_json([str(path) for path in written])
        return
    for path in written:
        out.print(str(path), soft_wrap=True, highlight=False)
    err.print(f"cd {folder} && make", style="dim", highlight=False)


def _name_of(folder: Path) -> str:
    """Name of the artifacts by that of the folder.

    Raises:
        InvalidInput: The folder's name has letters that no artifact's name has.
    """
    name = folder.absolute().name.lower()
    try:
        return check_name(name)
    except InvalidInput as error:
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub("[^a-z0-9]+", "-", letters).strip("-") or "detector"
        raise InvalidInput(
            f"the folder's name, {folder.absolute().name!r}, cannot name the project's artifacts",
            hint=f"give their name: --name {plain[:60]}",
        ) from error
