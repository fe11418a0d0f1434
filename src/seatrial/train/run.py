"""The whole of a finetuning: settle the plan, check the labels, train, conclude, report, keep."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.conditions import Conditions, conditions
from seatrial.config import decode_json, encode_json
from seatrial.errors import InvalidInput, TrainingFailed
from seatrial.manifest import check_name
from seatrial.progress import Progress, silent
from seatrial.system.extras import check_installed
from seatrial.system.files import write_atomically, writing
from seatrial.system.locks import locked
from seatrial.train.after_step import record_symptom
from seatrial.train.journal import read_epochs
from seatrial.train.launch import launch
from seatrial.train.options import FinetuneOptions
from seatrial.train.plan import Base, TrainingPlan, read_plan, read_sets, settle, write_plan
from seatrial.train.preflight import preflight
from seatrial.train.read_recipe import read_recipe
from seatrial.train.report import REPORT_FILE, REPORT_PAGE, TrainingReport, describe, to_html
from seatrial.train.result import CHECKPOINT, TOOLS, conclude, publish

TRAINED = "trained"  # file that says that the training is complete
LOCK = ".lock"
# What a trainer imports in its own processes, and what transformers' losses do.
NEEDED = {
    "transformers": ("transformers", "accelerate", "scipy"),
    "lightning": ("transformers", "lightning", "scipy"),
}
CONDITIONS = "conditions.json"


def finetune(
    store: Store,
    run: Path,
    options: FinetuneOptions,
    base: Base,
    artifact: Artifact | None,
    *,
    name: str,
    environment: Mapping[str, str],
    command: str = "",
    on_progress: Progress = silent,
) -> tuple[Artifact, TrainingReport]:
    """Train, and make an artifact of the best weights.

    A run that was killed resumes when it is started again with the same arguments.

    Args:
        store: Store that takes the result.
        run: Folder of the run: checkpoints, journal, report.
        options: Trainer, sets, recipe, tracker, and what may be replaced.
        base: Model that the training starts from.
        artifact: Artifact of the base; None from scratch.
        name: Name of the artifact; its checkpoint is named after it.
        environment: Environment of the processes that train.
        command: Command that a reader repeats this with.
        on_progress: Takes messages.

    Returns:
        The artifact (``finetune.html`` in it is the report), and the report.

    Raises:
        TrainingFailed: The training went wrong; the message names the likely cause.
        OutOfMemory: The batch does not fit; the message names one that does.
        InvalidInput: The folder holds another run, or a name is taken.
        MissingExtra: A package that the trainer needs is not installed.
        InvalidConfig: See `read_recipe`.
        SeatrialError: See `seatrial.export.run.export`.
    """
    for module in NEEDED.get(options.trainer, ()):
        check_installed(module, extra="train", purpose=f"the {options.trainer} trainer")
    for wanted in (check_name(name), f"{name}{CHECKPOINT}"):  # before hours of training
        store.check_free(wanted, replace=options.replace)
    recipe = read_recipe(options.recipe, base.family, options.overrules())
    data = options.sets()
    sets = read_sets(data.train, data.val)
    plan = settle(options.trainer, base, data, recipe, sets)
    with alone(run, restart=options.restart):
        if not resumes(plan, run):
            for symptom in preflight(plan, sets, artifact, on_progress):
                record_symptom(run, symptom)
                if symptom.fatal and recipe.diagnosis.action == "stop":
                    raise TrainingFailed(symptom.message, hint=symptom.hint)
                on_progress(f"warning: {symptom.message}")
        now = _began(run, command)
        if not (run / TRAINED).is_file():
            launch(plan, run, environment, on_progress, track=options.track)
            (run / TRAINED).touch()
        result = conclude(plan, run, sets[1], artifact, name, on_progress)
        report = describe(plan, run, sets, result, now)
        page = to_html(report, run, sets[1])
        files = {REPORT_FILE: encode_json(report), REPORT_PAGE: page.encode()}
        for file, content in files.items():
            write_atomically(run / file, content)
        _, made = publish(result, store, files, replace_old=options.replace)
        shutil.rmtree(run / "artifacts", ignore_errors=True)
        return made, report


def _began(run: Path, command: str) -> Conditions:
    """The conditions at the first start of a run: a run that resumes makes the same report."""
    file = run / CONDITIONS
    if not file.is_file():
        write_atomically(file, encode_json(conditions(command, *TOOLS)))
    return decode_json(file.read_bytes(), Conditions, origin=str(file))


@contextlib.contextmanager
def alone(run: Path, *, restart: bool) -> Iterator[None]:
    """Hold a run's folder, so that no other process trains in it.

    Raises:
        InvalidInput: Another process holds it, or it is no run and holds files.
        NotWritable: The folder cannot be written.
    """
    with writing(run, within=run):
        run.mkdir(parents=True, exist_ok=True)
        # A run that is begun anew is emptied.
        if not (run / LOCK).is_file() and any(run.iterdir()):
            raise InvalidInput(
                f"{run} holds files and is not a run of seatrial finetune",
                hint="move it away, or give another --name",
            )
        with locked(run / LOCK) as held:
            if not held:
                raise InvalidInput(
                    f"another process trains in {run}", hint="wait for it, or give another --name"
                )
            if restart:
                _empty(run)
            yield


def resumes(plan: TrainingPlan, run: Path) -> bool:
    """Write the plan into the folder, or check that it is the plan of the run in the folder.

    Returns:
        True where a run resumes.

    Raises:
        InvalidInput: The folder holds a run of another plan.
        InvalidConfig: The folder holds a run that another version began.
    """
    if not read_epochs(run):  # nothing was trained that could be lost
        _empty(run)
        write_plan(plan, run)
        return False
    before = read_plan(run)
    if before is None:
        raise InvalidInput(
            f"{run} holds epochs of a run without a plan", hint="begin anew with --restart"
        )
    _check_labels(run, before, plan)
    if before != plan:
        raise InvalidInput(
            f"{run} holds a run of another plan: {first_difference(before, plan)}",
            hint="begin anew with --restart, or give another --name",
        )
    return True


def _check_labels(run: Path, before: TrainingPlan, now: TrainingPlan) -> None:
    old, new = before.data, now.data
    same = (old.train, old.val) == (new.train, new.val)
    if same and old != new:
        what = "training" if old.train_digest != new.train_digest else "validation"
        raise InvalidInput(
            f"{run} holds a run on other labels: those of the {what} set in "
            f"{new.val or new.train if what == 'validation' else new.train} have changed since",
            hint="begin anew with --restart, or give another --name",
        )


def saved(run: Path) -> str:
    """The saved part of an interrupted run, and how to go on, in words."""
    epochs, plan = read_epochs(run), read_plan(run)
    if not epochs or plan is None:
        return "nothing is saved: the first epoch was not over; the same command starts anew"
    if (run / TRAINED).is_file():
        return (
            f"all {len(epochs)} epochs are saved in {run}; the same command goes on with the "
            "export and the measurement"
        )
    best = max(epochs, key=lambda row: row.ap)
    return (
        f"{len(epochs)} of {plan.recipe.epochs} epochs are saved in {run} (best: epoch "
        f"{best.epoch}, mAP {best.ap:.4f}); the same command goes on from the last checkpoint, "
        "with --restart it begins anew"
    )


def _empty(run: Path) -> None:
    for entry in run.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def first_difference(before: TrainingPlan, now: TrainingPlan) -> str:
    """The first key in which two plans differ, in words."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    path: list[str] = []
    while isinstance(old, dict) and isinstance(new, dict):
        key = next(k for k in {**old, **new} if old.get(k) != new.get(k))
        path.append(key)
        old, new = old.get(key), new.get(key)
    return f"{'.'.join(path)} was {str(old)[:60]} and is {str(new)[:60]}"
