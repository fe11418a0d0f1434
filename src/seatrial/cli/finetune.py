"""``seatrial finetune``: train a detector on a labelled set, and prove the result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.table import Table

from seatrial.cli.console import err, home, out, print_json, progress, progress_display, store

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.train.plan import Base, Trainer
    from seatrial.train.report import TrainingReport

AGPL = (
    "Ultralytics is licensed under AGPL-3.0: what is made with it, and services that are built on "
    "that, are under it too, unless you hold a licence from Ultralytics"
)


def finetune(
    *,
    trainer: Literal["transformers", "lightning", "ultralytics"],
    data: str,
    base: Annotated[str, Parameter(name="--from")],
    output: Annotated[str, Parameter(name=["--output", "-o"])],
    recipe: Path | None = None,
    val: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    processes: int | None = None,
    track: Literal["tensorboard", "mlflow"] | None = None,
    show_recipe: bool = False,
    restart: bool = False,
    replace: bool = False,
    allow_pickle: bool = False,
    json: bool = False,
) -> None:
    """Train a detector on a labelled set, and make an artifact of the best weights.

    The artifact has gone through export and its checks, and was measured against the base model
    on the validation set. A training that was killed goes on where it was when it is started again
    with the same options. Exit code 10: the training went wrong; the message names the likely
    cause.

    Args:
        trainer: transformers or lightning: DETR, RT-DETR, RT-DETRv2, D-FINE. ultralytics: YOLO11
            and its siblings (AGPL-3.0).
        data: yolo:FOLDER with a data.yaml, or coco:FOLDER: its sets train and val.
        base: What to begin with: an artifact with weights, a model on a hub
            (huggingface:OWNER/NAME), the folder of a checkpoint, a .pt file; or random weights:
            scratch:yolo11n, scratch:FOLDER with a config.json.
        output: Name of the artifact; its weights are kept as NAME-checkpoint.
        recipe: TOML file, see docs/guides/finetune.md [default: as the family was published].
        val: Another set to validate on [default: that of --data].
        epochs: Overrules the recipe.
        batch: Overrules the recipe: pictures of one step, over all processes.
        device: Overrules the recipe.
        processes: Overrules the recipe: so many share each batch.
        track: Show figures while it runs: tensorboard or mlflow, in the run's folder.
        show_recipe: Print the complete recipe, with the source of each default, and end.
        restart: Begin anew where a run of that name was killed.
        replace: Replace artifacts of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
        json: Print the report as JSON.
    """
    from seatrial.train.plan import Data, read_sets, settle
    from seatrial.train.read_recipe import read_recipe
    from seatrial.train.run import finetune as run

    if trainer == "ultralytics":
        err.print(AGPL, style="yellow", highlight=False)
    parent, begin = _base(base, trainer, allow_pickle=allow_pickle)
    asked = read_recipe(recipe, begin.family, _overrules(epochs, batch, device, processes))
    if show_recipe:
        from seatrial.train.published import sources

        text = asked.to_toml(sources(begin.family, msgspec.to_builtins(asked)))
        out.print(text, end="", soft_wrap=True, highlight=False, markup=False)
        return
    train, other = _absolute(data), None if val is None else _absolute(val)
    sets = read_sets(train, other)
    plan = settle(trainer, begin, Data(train, other), asked, sets)
    folder = home() / "runs" / output
    progress(f"training in {folder}")
    artifact, report = run(
        store(),
        plan,
        parent,
        folder,
        name=output,
        environment=_environment(),
        track=track,
        restart=restart,
        replace=replace,
        tell=progress,
    )
    _announce(artifact, report, json=json)


def _base(text: str, trainer: Trainer, *, allow_pickle: bool) -> tuple[Artifact | None, Base]:
    from seatrial.train.plan import SCRATCH, base_of, scratch_base

    if text.startswith(SCRATCH):
        return None, scratch_base(text.removeprefix(SCRATCH), trainer)
    artifact = _artifact(text, allow_pickle=allow_pickle)
    return artifact, base_of(artifact, trainer)


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


def _overrules(
    epochs: int | None, batch: int | None, device: str | None, processes: int | None
) -> dict[str, Any]:
    compute = {"device": device, "processes": processes}
    given: dict[str, Any] = {"epochs": epochs, "batch": batch}
    given = {key: value for key, value in given.items() if value is not None}
    compute = {key: value for key, value in compute.items() if value is not None}
    return {**given, "compute": compute} if compute else given


def _absolute(spec: str) -> str:
    """A run may be gone on with from another folder."""
    kind, colon, where = spec.partition(":")
    return f"{kind}:{Path(where).expanduser().absolute()}" if colon and where else spec


def _environment() -> dict[str, str]:
    """For the processes that train: Ultralytics keeps its settings with us unless told where."""
    folder = home() / "ultralytics"
    folder.mkdir(parents=True, exist_ok=True)
    return {"YOLO_CONFIG_DIR": str(folder), **os.environ}


def _announce(artifact: Artifact, report: TrainingReport, *, json: bool) -> None:
    from seatrial.train.report import REPORT_PAGE

    if json:
        print_json(report)
    else:
        table = Table("on validation", "mAP", "mAP50", "precision", "recall")
        for side in (report.before, report.after):
            if side is not None:
                at = side.at_threshold
                figures = (side.figures.ap, side.figures.ap50, at.precision, at.recall)
                table.add_row(side.name, *map(_number, figures))
        out.print(table)
    if report.before is not None and report.before.note:
        err.print(f"{report.before.name}: {report.before.note}", highlight=False)
    if report.difference is not None:
        found = report.difference
        err.print(
            f"mAP {found.difference:+.4f} ({found.level:.0%} interval {found.low:+.4f} to "
            f"{found.high:+.4f}, {found.images} pictures)",
            highlight=False,
        )
    err.print(f"wrote {artifact.path}", highlight=False, soft_wrap=True)
    err.print(f"report: {artifact.path / REPORT_PAGE}", highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
