"""The whole of a compression: quantise, judge, give back what must be float, prove, keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact, Step, Store, check_name
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import Diverged, InvalidArtifact, InvalidConfig, InvalidDataset
from seatrial.progress import Progress, silent
from seatrial.quantise import restore
from seatrial.quantise.backend import Backend, open_backend
from seatrial.quantise.calibration_images import CalibrationImages, check, choose, find_pictures
from seatrial.quantise.job import Given, Quantisation, QuantiseOptions
from seatrial.quantise.judge import AgreementJudge, Judge, LabelJudge
from seatrial.quantise.report import REPORT_FILE, QuantiseReport
from seatrial.quantise.workspace import workspace
from seatrial.system.versions import versions

MOST_JUDGED = 5000  # pictures without labels


def compress_int8(
    store: Store,
    parent: Artifact,
    options: QuantiseOptions,
    *,
    calibration: Path,
    labelled: LabelledSet | None = None,
    name: str | None = None,
    replace: bool = False,
    on_progress: Progress = silent,
) -> tuple[Artifact, QuantiseReport]:
    """Make an INT8 artifact, and prove it against its parent.

    A run that is killed goes on where it was when it is started again with the same arguments.

    Args:
        store: Where it goes.
        parent: A float32 artifact.
        options: See `QuantiseOptions`.
        calibration: Folder of pictures like those that the service will see.
        labelled: Labelled pictures to judge by; without them, agreement with the parent decides.
        name: Of the artifact; the parent's with ``-int8`` and the target by default.
        replace: Replace an artifact of that name with other content.
        on_progress: Told what is going on.

    Returns:
        The artifact (``int8.json`` in it is the report), and the report. Its verdict is
        ``holds`` or ``undecided``.

    Raises:
        Diverged: The gate fails. Nothing was written; the error has the report.
        InvalidArtifact: The parent is not float32, or has no graph that can be quantised.
        InvalidDataset: A picture is unusable, or the labels are not the model's.
        InvalidInput: A name that is taken, a recipe that is not known, a run of the same kind.
        MissingExtra, NotWritable: What it needs is not here.
    """
    backend = open_backend(options.to)
    name = check_name(name or f"{parent.manifest.name}-int8-{options.to}")
    recipes = _recipes(backend, options)
    if parent.manifest.precision != "f32":
        raise InvalidArtifact(
            f"{parent.manifest.name} is {parent.manifest.precision}; INT8 is made of float32",
            hint="compress the artifact that it was made from",
        )
    if not replace:
        store.check_free(name)
    given = _given(parent, options, calibration, labelled, on_progress)
    key = msgspec.json.encode(
        (parent.digest, options, recipes, given.calibration, given.skipped, given.judge.key,
         backend.config(), versions(*backend.versions()))
    ).decode()  # fmt: skip
    with workspace(store, key) as work:
        head = backend.prepare(parent, work)
        job = Quantisation(parent, options, backend, given, work, head, on_progress)
        folder, report = job.run(recipes)
        if not report.verdict.within:
            raise Diverged(
                report.verdict.statement,
                hint="calibrate on more pictures that are like those of the service, allow more "
                "layers in float (--most-restored), or keep float32",
                report=report,
            )
        return _keep(store, job, folder, report, name, replace), report


def _given(
    parent: Artifact,
    options: QuantiseOptions,
    folder: Path,
    labelled: LabelledSet | None,
    on_progress: Progress,
) -> Given:
    files = find_pictures(folder)
    drawn = choose(files, options.calibration, options.seed)
    chosen = check(drawn, "calibration", on_progress)
    if not chosen.files:
        raise InvalidDataset(
            f"none of the {len(drawn)} calibration pictures can be used: "
            f"{chosen.skipped[0].file}: {chosen.skipped[0].reason}",
            hint="give a folder of JPEG, PNG or WebP files",
        )
    facts: dict[str, str | int] = {
        "folder": folder.name,
        "pictures": len(chosen.files),
        "skipped": len(chosen.skipped),
        "seed": options.seed,
        "sha256": chosen.digest,
    }
    pictures = CalibrationImages(chosen.files, parent.manifest)
    labels = parent.manifest.labels
    if labelled is not None:
        judge: Judge = LabelJudge(labelled, labels, options.gate)
        return Given(pictures, facts, judge, chosen.skipped)
    # Pictures that calibration has not seen, where there are any.
    seen = {*drawn}
    left = choose(tuple(file for file in files if file not in seen), MOST_JUDGED, options.seed)
    others = check(left, "remaining", on_progress)
    judged = others if others.files else chosen
    judge = AgreementJudge(
        CalibrationImages(judged.files, parent.manifest), labels, options.gate, key=judged.digest
    )
    return Given(pictures, facts, judge, (*chosen.skipped, *others.skipped))


def _recipes(backend: Backend, options: QuantiseOptions) -> tuple[str, ...]:
    unknown = [one for one in options.recipes if one not in backend.recipes]
    if unknown:
        raise InvalidConfig(
            f"unknown recipe {unknown[0]!r} for {options.to}",
            hint=f"known: {', '.join(backend.recipes)}",
        )
    return options.recipes or backend.recipes


def _keep(
    store: Store, job: Quantisation, folder: Path, report: QuantiseReport, name: str, replace: bool
) -> Artifact:
    finding = report.finding
    metrics = {
        f"{finding.metric}_drop": finding.drop,
        f"{finding.metric}_drop_low": finding.low,
        f"{finding.metric}_drop_high": finding.high,
    }
    if finding.metric == "ap":
        metrics = {"coco_ap": finding.child, **metrics}
    if finding.mean_shift is not None and finding.mean_abs_shift is not None:
        metrics["confidence_shift"] = finding.mean_shift
        metrics["confidence_shift_size"] = finding.mean_abs_shift
    if report.speed is not None:
        metrics["speed_ratio"] = report.speed.ratio
    config: dict[str, Any] = {
        **job.backend.config(),
        "to": report.to,
        "recipe": report.recipe,
        "calibration": report.calibration,
        "gate": msgspec.to_builtins(report.gate),
        "verdict": report.verdict.outcome,
        "float_head": list(report.head),
        "float_layers": [step.layer for step in report.restored],
    }
    with store.staging() as staged:
        restore.copy_graph(folder, staged)
        (staged / REPORT_FILE).write_bytes(
            msgspec.json.format(msgspec.json.encode(report), indent=2)
        )
        step = Step("compress-int8", config, versions(*job.backend.versions()))
        manifest = msgspec.structs.replace(job.manifest(), name=name, step=step, metrics=metrics)
        return store.commit(staged, manifest, replace=replace)
