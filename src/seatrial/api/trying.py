"""The trial, from names to a report: models are opened, images read, candidates tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seatrial.api.home import store
from seatrial.conditions import conditions
from seatrial.contract import Contract
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidArtifact, InvalidConfig
from seatrial.progress import Progress, silent

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.trial.trial_report import TrialReport

MOST_IMAGES = 256


def find_deployment(
    contract: Path,
    models: Sequence[str],
    *,
    dataset: str | None = None,
    annotations: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    skip_missing: bool = False,
    images: Path | None = None,
    calibration: Path | None = None,
    budget: str = "15m",
    allow_pickle: bool = False,
    output: Path,
    command: str = "",
    on_progress: Progress = silent,
) -> TrialReport:
    """Find the deployment that holds a contract with the highest capacity, and judge it.

    Args:
        contract: TOML file.
        models: Names in the store, artifact folders, or model files.
        dataset: Labelled images: ``coco:FOLDER``, ``yolo:FOLDER`` or ``voc:FOLDER``.
        annotations: Their labels; None: found in the folder.
        split: Which set, where the folder has several.
        skip_missing: Leave out images that the labels name and that are not there.
        images: Folder of images to send; None: that of the dataset.
        calibration: Folder of images for INT8; None: the images to send.
        budget: Longest time: ``15m``.
        allow_pickle: Read ``.pt`` files, although reading them runs code that is in them.
        output: Folder of the reports and of the journal.
        command: The command that a reader repeats this with.
        on_progress: Called with the progress.

    Raises:
        InvalidConfig: The contract or an option is wrong, images are missing for a clause, or the
            folder has the journal of another trial.
        InvalidArtifact: There is no such model.
        InvalidDataset: Labels or images cannot be used.
        NotWritable: The folder cannot be written to.
        MissingExtra: A package is not installed.
    """
    from seatrial.trial.plan import check_labels, images_folder
    from seatrial.trial.question import TrialPlan, check_contract
    from seatrial.trial.sea_trial import run_trial
    from seatrial.trial.time_budget import read_budget

    # What is wrong is reported before a model is opened.
    wanted, budget_s, here = Contract.read(contract), read_budget(budget), conditions(command)
    check_contract(wanted)
    if not models:
        raise InvalidConfig("no model given", hint="--model NAME (see seatrial models list)")
    labelled = None
    if dataset is not None:
        labelled = read_labelled(dataset, annotations, split=split, skip_missing=skip_missing)
    check_labels(wanted, labelled)
    folder = images or (None if labelled is None else images_folder(labelled))
    if folder is None:
        raise InvalidConfig(
            "there are no images to send",
            hint="give a folder of images like those that the service will see: --images FOLDER",
        )
    from seatrial.api.trial_workshop import LocalWorkshop, subject_of, this_machine
    from seatrial.load.images import load_images
    from seatrial.trial.trial_page import write_trial

    sent = load_images(folder, limit=MOST_IMAGES, seed=0)
    opened = tuple(_opened(name, allow_pickle=allow_pickle) for name in models)
    ranges = "" if calibration is None else _digest(calibration)
    plan = TrialPlan(
        wanted,
        tuple(map(subject_of, opened)),
        this_machine(),
        sent,
        "" if labelled is None else labelled.digest(),
        budget_s,
        calibration_digest=ranges,
        seen_by_int8=labelled is not None and _same(calibration or folder, images_folder(labelled)),
    )
    workshop = LocalWorkshop(store(), opened, labelled, folder, calibration or folder)
    report = run_trial(plan, workshop, output, here=here, say=on_progress, on_progress=on_progress)
    write_trial(report, output)
    return report


def _opened(name: str, *, allow_pickle: bool) -> Artifact:
    """A model; where it is a file that may run code, the hint is this command's own option."""
    from seatrial.models.resolve import resolve

    try:
        return resolve(store(), name, allow_pickle=allow_pickle)
    except InvalidArtifact as error:
        if allow_pickle or "--allow-pickle" not in (error.hint or ""):
            raise
        hint = "if you trust where it came from, add --allow-pickle"
        raise InvalidArtifact(error.message, hint=hint) from error


def _digest(folder: Path) -> str:
    """Digest of a sample of the images of a folder."""
    from seatrial.load.images import load_images

    return load_images(folder, limit=MOST_IMAGES, seed=0).summary.digest


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
