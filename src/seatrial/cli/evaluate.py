"""``seatrial evaluate``: accuracy on labelled images, in this process or through a service."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from seatrial.cli.console import command_line, err, out, print_json, progress_display, store
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.page import check_page, write_page
from seatrial.cli.running import check_named
from seatrial.cli.verdict import leave, show_verdict
from seatrial.contract import Contract
from seatrial.deployment import Precision
from seatrial.errors import InvalidConfig
from seatrial.report.numbers import counted
from seatrial.report.table import Table
from seatrial.system.files import check_place, write_atomically, writing

if TYPE_CHECKING:
    from seatrial.accuracy.compare import Comparison
    from seatrial.accuracy.evaluate import (
        ClassFigures,
        Evaluation,
        Figures,
        Scored,
        Scores,
    )
    from seatrial.accuracy.kept_answers import KeptAnswers
    from seatrial.accuracy.predict import Subject
    from seatrial.artifact import Artifact
    from seatrial.client.credentials import Credentials
    from seatrial.deployment import Deployment

    Measure = Callable[[Subject, str], Scored]
    Opened = tuple[Artifact, Deployment]

MOST_AT_A_TIME = 32  # connections
RESUME_HINT = "name another file (--resume)"
SAVE_HINT = "name another file (--save-detections)"


def evaluate(
    artifact: str | None = None,
    /,
    *,
    dataset: str,
    annotations: Path | None = None,
    split: Literal["train", "val", "test"] = "val",
    url: str | None = None,
    path: str | None = None,
    credentials: CredentialOptions | None = None,
    at_a_time: int | None = None,
    resume: Path | None = None,
    parent: str | None = None,
    parent_precision: Precision = "f32",
    options: DeploymentOptions | None = None,
    threshold: float = 0.25,
    skip_missing: bool = False,
    unmatched: Literal["error", "ignore"] = "error",
    save_detections: Path | None = None,
    report: Path | None = None,
    contract: Path | None = None,
    json: bool = False,
) -> None:
    """Measure accuracy by COCO's rules: AP, AR, by size and by class.

    Detections are taken down to confidence 0.001 (IoU 0.7, 300 an image, several labels a box),
    as published figures are. The same numbers come from this process and through a service.

    Args:
        artifact: Name in the store, an artifact folder or a model file; the same as --model.
        dataset: coco:FOLDER of images, yolo:FOLDER with a data.yaml, or voc:FOLDER.
        annotations: COCO's JSON file, another data.yaml, or a list of classes [default: found].
        split: Which set, where the folder has several.
        url: Measure a running service; with an artifact, see that it serves that one.
        path: Model of a Triton at --url: its name, or /v2/models/NAME/infer [default: the first
            that says its classes].
        credentials: What it wants to see.
        at_a_time: Images that the service is asked for at a time [default: what it works on at a
            time, and one].
        resume: Keep each answer of the service in this file, and ask only for what is not in it: a
            measurement that was broken off goes on.
        parent: Compare with this model, in this process: difference in AP, with its interval, and
            shift of confidences. The same model in another precision will do.
        parent_precision: Numeric type that the parent computes in.
        options: Engine and layout of the detector in this process.
        threshold: Confidence at which precision and recall are given, 0-1.
        skip_missing: Leave out images that the labels name and that are not there.
        unmatched: What to do with classes that only the model or only the dataset has: error,
            or ignore and measure on what both know.
        save_detections: Write the boxes to this file, in COCO's format for results.
        report: Write the report as an HTML page too, with the interval of AP.
        contract: TOML file; its accuracy clauses are judged. Exit code 8: they do not hold; 9: it
            cannot be decided.
        json: Print JSON.
    """
    from seatrial.accuracy import evaluate as library
    from seatrial.accuracy.bootstrap import intervals
    from seatrial.accuracy.compare import compare
    from seatrial.accuracy.limits import LossLimits
    from seatrial.accuracy.loss import Loss, judge_loss
    from seatrial.datasets.read import read_labelled
    from seatrial.trial.unseen import seen_before
    from seatrial.trial.verdict import Accuracy, judge_contract

    wanted = None if contract is None else Contract.read(contract, judged=["accuracy"])
    if not 0 <= threshold <= 1:
        raise InvalidConfig(f"--threshold {threshold:g} is not between 0 and 1")
    chosen = options or DeploymentOptions()
    if url is not None and parent is None and replace(chosen, model=None) != DeploymentOptions():
        raise InvalidConfig(
            "--url measures a running service; it cannot be given another engine or layout",
            hint="leave --url out to measure with these options in this process",
        )
    if url is None and path is not None:
        raise InvalidConfig("--path names a model of a running Triton", hint="give its --url, too")
    asking = _Asking(path, at_a_time, resume)
    asking.check(url)
    if artifact is not None and chosen.model not in (None, artifact):
        raise InvalidConfig(
            f"two models are named: {artifact} and --model {chosen.model}",
            hint=f"name one; to compare the two: seatrial evaluate {artifact} --parent "
            f"{chosen.model}",
        )
    if artifact is not None:
        chosen = replace(chosen, model=artifact)
    check_named(url, chosen)
    shown = (credentials or CredentialOptions()).read(url)
    base = None
    if parent is not None:  # an unknown name is reported before the long work
        base = _opened(replace(chosen, model=parent, precision=parent_precision))
    here = chosen.model is not None or chosen.deployment is not None
    models = [chosen.resolve().model if here else None, parent]
    read = [annotations, contract, chosen.deployment, *_read_by(models)]
    check_page(report, inputs=filter(None, read))
    labelled = read_labelled(dataset, annotations, split=split, skip_missing=skip_missing)
    if save_detections is not None:
        _check_detections(save_detections, report, [*filter(None, read), *labelled.files()])
    if resume is not None:
        _check_resume(resume, [report, save_detections], [*filter(None, read), *labelled.files()])

    def measure(subject: Subject, name: str) -> Scored:
        with progress_display() as on_progress:
            return library.evaluate(
                subject,
                labelled,
                threshold=threshold,
                unmatched=unmatched,
                command=command_line(),
                on_progress=on_progress,
            )

    if url is not None:
        child = None if chosen.model is None else _opened(chosen)[0]
        measured, child = _through(url, asking, shown, child, measure)
    else:
        opened = _opened(chosen)
        child, measured = opened[0], _here(opened, measure)
    found = measured.report
    if base is not None:
        before = _here(base, measure)
        with progress_display() as on_progress:
            compared = compare(measured.box_set, before.box_set, on_progress=on_progress)
        steps = [] if child is None else store().steps_between(child, base[0])
        kept = judge_loss(Loss.of(compared), LossLimits(), finetuned="finetune" in steps)
        found = msgspec.structs.replace(found, parent=compared, parent_verdict=kept)
    if wanted is not None or report is not None:
        found = msgspec.structs.replace(found, intervals=intervals(measured.matches))
    if wanted is not None:
        lineage = [] if child is None else store().lineage(child)
        flattered = seen_before(lineage, found.labels_digest)
        accuracy = Accuracy(found.scores.figures, found.intervals, flattered)
        found = msgspec.structs.replace(found, verdict=judge_contract(wanted, accuracy=accuracy))
    if json:
        print_json(found)
    else:
        _show(found)
    try:  # files come last: a disk that has filled up meanwhile loses no finding
        if save_detections is not None:
            _save(save_detections, measured)
        if report is not None:
            from seatrial.accuracy.html_report import page

            write_page(report, page(found, measured))
    finally:
        if found.verdict is not None:
            show_verdict(found.verdict, json=json)
    leave(found.verdict)


def _read_by(models: Sequence[str | None]) -> list[Path]:
    from seatrial.models.resolve import read_by

    return [file for one in models if one is not None for file in read_by(store(), one)]


def _check_detections(file: Path, report: Path | None, read: Sequence[Path]) -> None:
    if report is not None and file.resolve() == report.resolve():
        raise InvalidConfig(f"--save-detections and --report both name {file}", hint=SAVE_HINT)
    check_place(file, hint=SAVE_HINT, inputs=read)


def _check_resume(file: Path, written: Sequence[Path | None], read: Sequence[Path]) -> None:
    if any(one is not None and file.resolve() == one.resolve() for one in written):
        raise InvalidConfig(f"--resume and another option name {file}", hint=RESUME_HINT)
    check_place(file, hint=RESUME_HINT, inputs=read)


def _opened(options: DeploymentOptions) -> Opened:
    deployment = options.resolve()
    return options.open(deployment), deployment


def _here(opened: Opened, measure: Measure) -> Scored:
    from seatrial.accuracy.predict import InProcess
    from seatrial.detect.opening import open_detector

    artifact, deployment = opened
    with open_detector(artifact, deployment) as detector:
        return measure(InProcess(detector), artifact.manifest.name)


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a running service is asked."""

    path: str | None
    at_a_time: int | None
    resume: Path | None

    def check(self, url: str | None) -> None:
        given = {"--at-a-time": self.at_a_time, "--resume": self.resume}
        if url is None and (named := [name for name, value in given.items() if value is not None]):
            raise InvalidConfig(
                f"{named[0]} is for a running service", hint="give its --url, or leave it out"
            )
        if self.at_a_time is not None and not 1 <= self.at_a_time <= MOST_AT_A_TIME:
            raise InvalidConfig(
                f"--at-a-time {self.at_a_time} is not a number from 1 to {MOST_AT_A_TIME}"
            )


def _through(
    url: str, asking: _Asking, shown: Credentials, child: Artifact | None, measure: Measure
) -> tuple[Scored, Artifact | None]:
    """The accuracy that a service reaches, and its artifact, where that is known here."""
    from seatrial.accuracy.inference_service import RemoteInference, running_subject
    from seatrial.accuracy.kept_answers import KeptAnswers
    from seatrial.client.inference_wire import ModelName

    named = None if asking.path is None else ModelName.of(asking.path)
    with contextlib.closing(running_subject(url, named, credentials=shown)) as service:
        if named is not None and not isinstance(service, RemoteInference):
            raise InvalidConfig(
                f"--path names a model of a Triton, and {url} is a service of Seatrial",
                hint="leave --path out: the service says which model it serves",
            )
        if child is not None:
            service.check(child)
        if asking.at_a_time is not None:
            service.concurrency = asking.at_a_time
        known = child or store().with_digest(service.digest)
        if asking.resume is None:
            return measure(service, url), known
        with contextlib.closing(KeptAnswers(service, asking.resume)) as kept:
            _say_kept(kept, asking.resume)
            measured = measure(kept, url)
            if unused := kept.found - kept.used:
                err.print(f"{unused} of them were of no use: they are to other images")
            return measured, known


def _say_kept(kept: KeptAnswers, file: Path) -> None:
    said = f"{file} has {counted(kept.found, 'answer')} of this model already" if kept.found else ""
    if kept.others:
        said += "; " if said else f"{file}: "
        said += f"{counted(kept.others, 'answer')} of another model, engine or precision "
        said += "is left aside" if kept.others == 1 else "are left aside"
    if said:
        err.print(said, highlight=False)


def _save(path: Path, measured: Scored) -> None:
    from seatrial.accuracy.evaluate import coco_results

    data = msgspec.json.encode(coco_results(measured.dataset, measured.predictions))
    with writing(path, hint=SAVE_HINT):
        write_atomically(path, data)
    err.print(f"wrote {path}", highlight=False)


def _show(report: Evaluation) -> None:
    table = Table("figure", "value")
    for name, value in msgspec.structs.asdict(report.scores.figures).items():
        table.add_row(name, _number(value))
    out.print(table)
    classes = Table("class", "objects", "ap", "ap50", "precision", "recall", "best F1", "at")
    whole = report.scores
    classes.add_row("all", str(report.objects), *_row(whole.figures, whole))
    for one in whole.classes:
        classes.add_row(one.name, str(one.objects), *_row(one, one))
    out.print(classes)
    notes = [
        f"{counted(report.images, 'image')}, {counted(report.objects, 'object')}, "
        f"{counted(report.crowds, 'crowd')}; precision and "
        f"recall at confidence {report.scores.at_threshold.threshold:g}, IoU 0.5",
        *report.notes,
    ]
    if report.skipped:
        left = counted(len(report.skipped), "image")
        are = "that is not there was" if len(report.skipped) == 1 else "that are not there were"
        notes.append(f"{left} {are} left out")
    if report.parent is not None and report.parent_verdict is not None:
        _show_comparison(report.parent)
        notes.append(report.parent_verdict.statement)
    for note in notes:
        err.print(note, highlight=False)


def _show_comparison(found: Comparison) -> None:
    table = Table("against the parent", "value")
    if found.ap is not None:
        ap = found.ap
        table.add_row("AP of the parent", _number(ap.a))
        table.add_row("difference", f"{ap.difference:+.4f}")
        table.add_row(f"{ap.level:.0%} interval", f"{ap.low:+.4f} to {ap.high:+.4f}")
    table.add_row("matched boxes", str(found.matched))
    table.add_row(f"lost, gained from {found.floor:.3g} on", f"{found.lost}, {found.gained}")
    if found.agreement is not None:
        both = found.agreement
        table.add_row("agreement (F1)", f"{both.share:.4f} ({both.low:.4f} to {both.high:.4f})")
    table.add_row("mean IoU of pairs", _number(found.iou_mean))
    table.add_row("mean shift of confidence", _number(found.mean_shift))
    table.add_row("mean size of a shift", _number(found.mean_abs_shift))
    out.print(table)
    bands = Table("confidence of the parent", "boxes", "mean of the parent", "mean here")
    for band in found.bands:
        bands.add_row(
            f"{band.low:.1f} to {band.high:.1f}",
            str(band.boxes),
            _number(band.mean_parent),
            _number(band.mean_child),
        )
    out.print(bands)


def _row(figures: Figures | ClassFigures, points: Scores | ClassFigures) -> Iterator[str]:
    now, best = points.at_threshold, points.best_f1
    values = (figures.ap, figures.ap50, now.precision, now.recall, *best.reached)
    return map(_number, values)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
