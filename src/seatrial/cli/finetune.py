"""``seatrial finetune``: train a detector on a labelled set, and verify the result."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from seatrial.cli.console import (
    command_line,
    err,
    home,
    out,
    print_json,
    progress,
    progress_display,
    store,
)
from seatrial.errors import InvalidConfig
from seatrial.report.table import Table
from seatrial.train.options import FinetuneOptions

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.train.report import TrainingReport

AGPL = (
    "Ultralytics is licensed under AGPL-3.0: what is made with it, and services that are built on "
    "that, are under it too, unless you hold a licence from Ultralytics"
)


def finetune(
    options: Annotated[FinetuneOptions, Parameter(name="*")],
    *,
    base: Annotated[str, Parameter(name="--from")],
    name: str | None = None,
    old_name: Annotated[str | None, Parameter(name=["--output", "-o"], show=False)] = None,
    show_recipe: bool = False,
    allow_pickle: bool = False,
    json: bool = False,
) -> None:
    """Train a detector on a labelled set, and make an artifact of the best weights.

    The artifact is exported with the checks of `seatrial export`, and measured against the base
    model on the validation set. A training that was killed resumes when it is started again with
    the same options. Exit code 10: the training went wrong; the message names the likely cause.

    Args:
        options: Trainer, sets and recipe.
        base: Model to start from: an artifact with weights, a model on a hub
            (huggingface:OWNER/NAME), the folder of a checkpoint, a .pt file; or random weights:
            scratch:yolo11n, scratch:FOLDER with a config.json.
        name: Name of the artifact; its weights are kept as NAME-checkpoint.
        old_name: The older form of --name.
        show_recipe: Print the complete recipe, with the source of each default, and end.
        allow_pickle: Read a .pt file, which may run code that is in it.
        json: Print the report as JSON.
    """
    from seatrial.manifest import check_name
    from seatrial.train.plan import SCRATCH
    from seatrial.train.report import REPORT_PAGE
    from seatrial.train.run import finetune as run
    from seatrial.train.run import saved

    name = check_name(_one_name(name, old_name))
    if options.trainer == "ultralytics":
        err.print(AGPL, style="yellow", highlight=False)
    artifact = None
    if not base.startswith(SCRATCH):
        artifact = _artifact(base, allow_pickle=allow_pickle)
    parent = options.base(base, artifact)
    if show_recipe:
        from seatrial.train.published import sources
        from seatrial.train.read_recipe import read_recipe

        recipe = read_recipe(options.recipe, parent.family, options.overrules())
        text = recipe.to_toml(sources(parent.family, msgspec.to_builtins(recipe)))
        out.print(text, end="", soft_wrap=True, highlight=False, markup=False)
        return
    folder = home() / "runs" / name
    progress(f"training in {folder}")
    try:
        with progress_display() as on_progress:
            made, report = run(
                store(),
                folder,
                options,
                parent,
                artifact,
                name=name,
                environment=_environment(),
                command=command_line(),
                on_progress=on_progress,
            )
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        err.print(saved(folder))
        raise
    if json:
        print_json(report)
    else:
        _show(report)
    err.print(f"wrote {made.path}", highlight=False, soft_wrap=True)
    err.print(f"report: {made.path / REPORT_PAGE}", highlight=False, soft_wrap=True)


def _one_name(name: str | None, old_name: str | None) -> str:
    """The name that was given; ``-o`` is a file or a folder in every other command."""
    if old_name is not None and name is None:
        err.print("finetune: --name is the name of the artifact; -o still works", style="dim")
    given = old_name if name is None else name
    if given is None or (old_name is not None and old_name != given):
        raise InvalidConfig(
            "seatrial finetune needs one --name", hint="--name NAME names the new artifact"
        )
    return given


def _artifact(text: str, *, allow_pickle: bool) -> Artifact:
    from seatrial.models.resolve import resolve
    from seatrial.models.sources.table import pull

    if ":" not in text:
        return resolve(store(), text, allow_pickle=allow_pickle)
    from seatrial.cli.hubs import access
    from seatrial.models.hubs.pull import PullOptions

    options = PullOptions(access(), home() / "downloads", allow_pickle=allow_pickle)
    with progress_display() as on_progress:
        return pull(store(), text, on_progress=on_progress, hub=options)


def _environment() -> dict[str, str]:
    """The environment of the training processes, with a settings folder for Ultralytics."""
    folder = home() / "ultralytics"
    folder.mkdir(parents=True, exist_ok=True)
    return {"YOLO_CONFIG_DIR": str(folder), **os.environ}


def _show(report: TrainingReport) -> None:
    table = Table("on validation", "mAP", "mAP50", "precision", "recall")
    for side in (report.before, report.after):
        if side is not None:
            at = side.at_threshold
            figures = (side.figures.ap, side.figures.ap50, at.precision, at.recall)
            table.add_row(side.name, *("-" if f is None else f"{f:.4f}" for f in figures))
    out.print(table)
    if report.before is not None and report.before.note:
        err.print(f"{report.before.name}: {report.before.note}", highlight=False)
    if report.verdict is not None:
        err.print(report.verdict.statement, highlight=False)
