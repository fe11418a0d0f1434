"""The whole of a compression: quantise, judge, give back what must be float, prove, keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact, Step, Store
from seatrial.errors import Diverged, InvalidArtifact, InvalidConfig
from seatrial.lifecycle.acquire import check_name, versions
from seatrial.lifecycle.compress import restore
from seatrial.lifecycle.compress.backend import Backend, open_backend
from seatrial.lifecycle.compress.gate import AgreementJudge, Judge, LabelJudge
from seatrial.lifecycle.compress.job import Job, Options
from seatrial.lifecycle.compress.pictures import Pictures, Progress, check, choose, find_pictures
from seatrial.lifecycle.compress.report import REPORT_FILE, Report
from seatrial.lifecycle.compress.workspace import workspace
from seatrial.lifecycle.data.labelled import LabelledSet

MOST_JUDGED = 5000  # pictures without labels


def compress_int8(
    store: Store,
    parent: Artifact,
    options: Options,
    *,
    calibration: Path,
    labelled: LabelledSet | None = None,
    name: str | None = None,
    replace: bool = False,
    on_progress: Progress = lambda what, done, total: None,
) -> tuple[Artifact, Report]:
    """Make an INT8 artifact, and prove it against its parent.

    A run that is killed goes on where it was when it is started again with the same arguments.

    Args:
        store: Where it goes.
        parent: A float32 artifact.
        options: See `Options`.
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
    files = find_pictures(calibration)
    chosen = choose(files, options.calibration, options.seed)
    digest = check(chosen, on_progress)
    pictures = Pictures(chosen, parent.manifest)
    judged_by = _judge(labelled, files, chosen, parent, options)
    key = msgspec.json.encode(
        (parent.digest, options, recipes, digest, judged_by.key, backend.config(),
         versions(*backend.versions()))
    ).decode()  # fmt: skip
    with workspace(store, key) as work:
        head = backend.prepare(parent, work)
        job = Job(parent, options, backend, pictures, judged_by, work, head, on_progress)
        folder, report = job.run(recipes, _facts(calibration, chosen, digest, options))
        if report.verdict.outcome == "fails":
            raise Diverged(
                report.verdict.statement,
                hint="calibrate on more pictures that are like those of the service, allow more "
                "layers in float (--most-restored), or keep float32",
                report=report,
            )
        return _keep(store, job, folder, report, name, replace), report


def _recipes(backend: Backend, options: Options) -> tuple[str, ...]:
    unknown = [one for one in options.recipes if one not in backend.recipes]
    if unknown:
        raise InvalidConfig(
            f"unknown recipe {unknown[0]!r} for {options.to}",
            hint=f"known: {', '.join(backend.recipes)}",
        )
    return options.recipes or backend.recipes


def _judge(
    labelled: LabelledSet | None,
    files: tuple[Path, ...],
    chosen: tuple[Path, ...],
    parent: Artifact,
    options: Options,
) -> Judge:
    labels = parent.manifest.labels
    if labelled is not None:
        return LabelJudge(labelled, labels, options.gate)
    # Pictures that calibration has not seen, where there are any.
    used = {*chosen}
    others = choose(tuple(f for f in files if f not in used), MOST_JUDGED, options.seed) or chosen
    pictures = Pictures(others, parent.manifest)
    return AgreementJudge(pictures, labels, options.gate, key=" ".join(map(str, others)))


def _facts(
    folder: Path, chosen: Sequence[Path], digest: str, options: Options
) -> dict[str, str | int]:
    return {
        "folder": folder.name,
        "pictures": len(chosen),
        "seed": options.seed,
        "sha256": digest,
    }


def _keep(
    store: Store, job: Job, folder: Path, report: Report, name: str, replace: bool
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
