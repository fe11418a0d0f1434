"""Export: make the graph, write the format, prove it against its parent, and only then keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact, Manifest, Step, Store, check_name
from seatrial.datasets.labels import LabelledSet, read_labelled
from seatrial.engines.base import Arrays, Engine
from seatrial.errors import Diverged
from seatrial.export import verify
from seatrial.export.formats import Written, check_here, write
from seatrial.export.options import ExportOptions, check
from seatrial.export.output_errors import output_errors
from seatrial.export.parent import Parent, describe, open_origin
from seatrial.export.report import (
    REPORT_FILE,
    TOLERANCES,
    Accuracy,
    ExportReport,
    Subject,
)
from seatrial.export.verify import Answers
from seatrial.graphs import first_difference
from seatrial.graphs.fuse_nms import fuse
from seatrial.progress import Progress, silent
from seatrial.system.hardware import usable_cores
from seatrial.system.versions import versions

TOOLS = ("onnx", "onnxruntime", "openvino", "torch", "transformers", "ultralytics", "tensorrt")


def export(
    store: Store,
    artifact: Artifact,
    options: ExportOptions,
    *,
    images: Path,
    annotations: Path | None = None,
    name: str | None = None,
    replace: bool = False,
    answers: Answers | None = None,
    on_progress: Progress = silent,
) -> Artifact:
    """Make an artifact of another format or precision, and prove it.

    Args:
        store: Where it goes.
        artifact: A checkpoint, or one with an ONNX graph.
        options: See `ExportOptions`.
        images: Folder of real pictures to compare on.
        annotations: COCO's labels of them, or a data.yaml: AP of both is measured too.
        name: Of the artifact; the parent's with format and precision by default.
        replace: Replace an artifact of that name with other content.
        answers: Of parents on these very pictures, from exports before this one: they need not
            answer again.
        on_progress: Told in words what is going on.

    Returns:
        The artifact; ``export.json`` in it is the report.

    Raises:
        Diverged: It does not answer as its parent does. Nothing was written; the error has the
            report.
        InvalidInput: The options do not go together, or the name is taken.
        InvalidArtifact: The parent does not load, or cannot become what was asked for.
        InvalidDataset: The pictures or labels cannot be used.
        MissingExtra, DeviceUnavailable, NotWritable: What it needs is not here.
    """
    check(options)
    check_here(options.to)
    name = check_name(name or default_name(artifact, options))
    pictures = verify.read_pictures(images)
    labelled = _labelled(images, annotations)
    threads = usable_cores()
    on_progress(f"opening {artifact.manifest.name}")
    origin = open_origin(artifact, options, threads=threads)
    try:
        with store.staging() as folder:
            graph, manifest = origin.graph, origin.manifest
            if options.fuse_nms:
                graph, manifest = _fused(origin)
            on_progress(f"writing {options.to} {options.precision}")
            written = write(folder, origin, graph, manifest, options)
            child = written.open(threads)
            try:
                report = _prove(
                    artifact,
                    origin,
                    written,
                    child,
                    pictures,
                    labelled,
                    options,
                    Answers() if answers is None else answers,
                    on_progress,
                )
            finally:
                child.close()
            if report.failures:
                raise _diverged(name, report)
            return _commit(store, artifact, written, options, report, name, replace=replace)
    finally:
        origin.engine.close()


def default_name(artifact: Artifact, options: ExportOptions) -> str:
    """``yolo11n-openvino-f16``; the canvas and the postprocessing are named where they change."""
    parts = [artifact.manifest.name, options.to, _precision(artifact.manifest, options)]
    if options.imgsz is not None:
        height, width = options.imgsz
        parts.append(str(height) if height == width else f"{height}x{width}")
    parts += ["fused"] if options.fuse_nms else []
    return "-".join(parts)


def _precision(manifest: Manifest, options: ExportOptions) -> str:
    """What the child computes in: what was asked for, but for a graph that is quantised already."""
    return "int8" if manifest.precision == "int8" else options.precision


def _labelled(images: Path, annotations: Path | None) -> LabelledSet | None:
    if annotations is None:
        return None
    kind = "yolo" if annotations.suffix in (".yaml", ".yml") else "coco"
    return read_labelled(f"{kind}:{images}", annotations)


def _fused(origin: Parent) -> tuple[Any, Manifest]:
    graph = type(origin.graph)()
    graph.CopyFrom(origin.graph)
    manifest = fuse(graph, origin.manifest)
    describe(graph, manifest)
    return graph, manifest


def _prove(
    artifact: Artifact,
    origin: Parent,
    written: Written,
    child: Engine,
    pictures: Any,
    labelled: LabelledSet | None,
    options: ExportOptions,
    answers: Answers,
    on_progress: Progress,
) -> ExportReport:
    tolerance = TOLERANCES[_precision(artifact.manifest, options)]
    limit = tolerance.output or TOLERANCES["f32"].output or 0.0
    on_progress(f"comparing {len(pictures)} pictures")
    parent = (artifact.digest, options.imgsz)
    if parent not in answers.seen:
        answers.seen[parent] = verify.look(origin.manifest, origin.engine, pictures)
    parent_seen = answers.seen[parent]
    child_seen = verify.look(written.manifest, child, pictures)
    ordered = verify.is_ordered(origin.manifest)
    outputs = (
        ()  # a fused graph has other outputs than its parent
        if options.fuse_nms
        else output_errors(parent_seen.outputs, child_seen.outputs, ordered=ordered, limit=limit)
    )
    probe = written.probe() if options.dynamic_batch else None
    batch = (
        verify.batch_errors(written.manifest, probe, child_seen, limit) if probe is not None else ()
    )
    found = verify.boxes(parent_seen, child_seen)
    measured = None
    if labelled is not None:
        measured = _accuracy(
            parent, origin, written, child, labelled, options, answers, on_progress
        )
    failures = verify.judge(tolerance, outputs, batch, found, measured)
    restless = None
    if failures and tolerance.output is None:
        on_progress("looking at how restless the parent is")
        moved = verify.look(
            origin.manifest, origin.engine, pictures, grey_levels=verify.GREY_LEVELS
        )
        restless = verify.boxes(parent_seen, moved)
        tolerance = verify.widen(tolerance, restless)
        failures = verify.judge(tolerance, outputs, batch, found, measured)
    report = ExportReport(
        options.config(),
        _side(artifact.manifest.name, artifact.digest, origin.engine),
        _side(written.manifest.name, "", child),
        tolerance,
        len(pictures),
        outputs,
        batch,
        found,
        measured,
        failures,
        tensorrt=written.trial(),
        restless=restless,
    )
    if not failures:
        return report
    on_progress("looking for the layers where the two part")
    limit = first_difference.LIMITS[_precision(artifact.manifest, options)]
    parted = _blame(origin, written, child_seen.feeds[0], limit)
    return msgspec.structs.replace(report, blame=parted)


def _accuracy(
    parent: tuple[Any, ...],
    origin: Parent,
    written: Written,
    child: Engine,
    labelled: LabelledSet,
    options: ExportOptions,
    answers: Answers,
    on_progress: Progress,
) -> Accuracy:
    # An anchor in a graph with NMS stands for one class; so it does in its parent, then.
    multi_label = not options.fuse_nms
    key = (*parent, multi_label)
    sides = ["child"] if key in answers.matches else ["parent", "child"]
    on_progress(
        f"measuring the accuracy of {' and '.join(sides)} on {len(labelled.images)} pictures"
    )
    if key not in answers.matches:
        answers.matches[key] = verify.detect(
            origin.manifest, origin.engine, labelled, multi_label=multi_label
        )
    found = verify.detect(written.manifest, child, labelled, multi_label=multi_label)
    return verify.accuracy(answers.matches[key], found)


def _side(name: str, digest: str, engine: Engine) -> Subject:
    version = engine.properties().get("version", "")
    return Subject(name, digest, engine.name, engine.precision, version)


def _blame(
    origin: Parent, written: Written, feeds: Arrays, limit: float
) -> first_difference.FirstDifference | None:
    probe = written.probe()
    if probe is None:
        return None
    try:
        return first_difference.find(
            origin.probe(),
            probe,
            feeds,
            limit=limit,
            nodes={name: node for node in origin.graph.graph.node for name in node.output},
        )
    except Exception:  # noqa: BLE001  a tensor that cannot be exposed must not hide the verdict
        return None


def _diverged(name: str, report: ExportReport) -> Diverged:
    where = ""
    first = report.blame.first if report.blame is not None else None
    if first is not None:
        where = f"; the graphs part at {first.operator} {first.node} (error {first.error:.3g})"
    return Diverged(
        f"{name} does not answer as its parent {report.parent.artifact} does: "
        f"{'; '.join(report.failures)}{where}",
        hint="nothing was written; --json prints the report with the layers to blame",
        report=report,
    )


def _commit(
    store: Store,
    artifact: Artifact,
    written: Written,
    options: ExportOptions,
    report: ExportReport,
    name: str,
    *,
    replace: bool,
) -> Artifact:
    report = msgspec.structs.replace(
        report, child=msgspec.structs.replace(report.child, artifact=name)
    )
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (written.folder / REPORT_FILE).write_bytes(text)
    manifest = msgspec.structs.replace(
        written.manifest,
        name=name,
        parent=artifact.digest,
        step=Step("export", {**options.config(), "proven_in": written.computes}, versions(*TOOLS)),
        metrics=report.metrics(),
        files=(),
    )
    return store.commit(written.folder, manifest, replace=replace)
