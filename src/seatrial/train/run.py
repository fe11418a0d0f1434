"""The whole of a finetuning: settle, look, train, conclude, report, keep."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store, check_name
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import InvalidInput, NotWritable, TrainingFailed
from seatrial.progress import Progress, silent
from seatrial.train import preflight
from seatrial.train.after_step import note_finding
from seatrial.train.journal import read_epochs
from seatrial.train.launch import launch
from seatrial.train.plan import Plan, read_plan, read_sets, write_plan
from seatrial.train.report import REPORT_FILE, REPORT_PAGE, TrainingReport, describe, to_html
from seatrial.train.result import CHECKPOINT, conclude, publish

TRAINED = "trained"  # a file that says that the training is through
LOCK = ".lock"


def finetune(
    store: Store,
    plan: Plan,
    base: Artifact | None,
    run: Path,
    *,
    name: str,
    environment: Mapping[str, str],
    track: str | None = None,
    restart: bool = False,
    replace: bool = False,
    tell: Progress = silent,
) -> tuple[Artifact, TrainingReport]:
    """Train, and make an artifact of the best weights.

    A run that was killed goes on where it was when it is started again with the same arguments.

    Args:
        store: Where the result goes.
        plan: Of the run.
        base: What the training begins with; None from scratch.
        run: Its folder: checkpoints, journal, report.
        name: Of the artifact; its checkpoint is named after it.
        environment: For the processes that train.
        track: Where figures are shown while it runs: ``tensorboard`` or ``mlflow``.
        restart: Begin anew, whatever the folder holds.
        replace: Replace artifacts of the same names.
        tell: Told in words what is going on.

    Returns:
        The artifact (``finetune.html`` in it is the report), and the report.

    Raises:
        TrainingFailed: What went wrong, with its likely cause.
        OutOfMemory: With the batch that fits.
        InvalidInput: The folder holds another run, or a name is taken.
        SeatrialError: See `seatrial.export.run.export`.
    """
    _check_names(store, check_name(name), replace=replace)
    sets = read_sets(plan.data.train, plan.data.val)
    with _alone(run, restart=restart):
        begun = _begin(plan, run)
        if not begun:
            _look(plan, sets, base, run, tell)
        if not (run / TRAINED).is_file():
            launch(plan, run, environment, tell, track=track)
            (run / TRAINED).touch()
        result = conclude(plan, run, sets[1], base, name, tell)
        report = describe(plan, run, sets, result)
        page = to_html(report, run, sets[1], result.child.predictions)
        data = msgspec.json.format(msgspec.json.encode(report), indent=1)
        files = {REPORT_FILE: data, REPORT_PAGE: page.encode()}
        for file, content in files.items():
            (run / file).write_bytes(content)
        _, artifact = publish(result, store, files, replace_old=replace)
        shutil.rmtree(run / "artifacts", ignore_errors=True)
        return artifact, report


def _check_names(store: Store, name: str, *, replace: bool) -> None:
    """Hours of training should not end at a name that is taken."""
    taken = [n for n in (name, f"{name}{CHECKPOINT}") if n in store.names()]
    if taken and not replace:
        raise InvalidInput(
            f"the store already has an artifact named {taken[0]!r}",
            hint="give this one another name (-o), or replace it (--replace)",
        )


@contextlib.contextmanager
def _alone(run: Path, *, restart: bool) -> Iterator[None]:
    """Hold a run's folder; its processes inherit the lock and keep it until they end."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        with (run / LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InvalidInput(
                    f"another process trains in {run}", hint="wait for it, or name another -o"
                ) from error
            if restart:
                _empty(run)
            yield
    except PermissionError as error:
        raise NotWritable(f"{run} cannot be written: {error.strerror}") from error


def _begin(plan: Plan, run: Path) -> bool:
    """Write the plan down, or see that it is the one of the run that goes on.

    Returns:
        Whether a run goes on.

    Raises:
        InvalidInput: The folder holds a run of another plan.
    """
    before = read_plan(run)
    if before is None or not read_epochs(run):  # nothing was trained that could be lost
        _empty(run)
        write_plan(plan, run)
        return False
    if before != plan:
        raise InvalidInput(
            f"{run} holds a run of another plan: {_difference(before, plan)}",
            hint="begin anew with --restart, or name another -o",
        )
    return True


def _empty(run: Path) -> None:
    for entry in run.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _difference(before: Plan, now: Plan) -> str:
    """The first difference, in words."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    path: list[str] = []
    while isinstance(old, dict) and isinstance(new, dict):
        key = next(k for k in {**old, **new} if old.get(k) != new.get(k))
        path.append(key)
        old, new = old.get(key), new.get(key)
    return f"{'.'.join(path)} was {str(old)[:60]} and is {str(new)[:60]}"


def _look(
    plan: Plan,
    sets: tuple[LabelledSet, LabelledSet],
    base: Artifact | None,
    run: Path,
    tell: Progress,
) -> None:
    for finding in preflight.look(plan, sets, base):
        note_finding(run, finding)
        if finding.fatal and plan.recipe.diagnosis.action == "stop":
            raise TrainingFailed(finding.message, hint=finding.hint)
        tell(f"warning: {finding.message}")
