"""Export: make the graph, write the format, compare it with its parent, and only then keep it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.config import encode_json
from seatrial.datasets.read import read_labelled
from seatrial.errors import Diverged
from seatrial.export.formats import check_here, write
from seatrial.export.options import ExportOptions, check
from seatrial.export.parent import describe, open_parent
from seatrial.export.report import REPORT_FILE, ExportReport
from seatrial.export.verify import ParentAnswers, compared_files, read_images, verify
from seatrial.graphs.fuse_nms import fuse
from seatrial.manifest import Step, check_name
from seatrial.progress import Progress, silent
from seatrial.system.hardware import usable_cores
from seatrial.system.images import images_digest
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
    known: ParentAnswers | None = None,
    on_progress: Progress = silent,
) -> Artifact:
    """Make an artifact of another format or precision, and prove it.

    Args:
        store: Store that the artifact goes to.
        artifact: The parent: a checkpoint, or an artifact with an ONNX graph.
        options: See `ExportOptions`.
        images: Folder of real images to compare on.
        annotations: Their labels, COCO's or a data.yaml: AP of both is compared too.
        name: Name of the artifact; default: the parent's with format and precision.
        replace: Replace an artifact of that name with other content.
        known: Answers of parents on these very images, from earlier exports.
        on_progress: Called with each step.

    Returns:
        The artifact; ``export.json`` in it is the report.

    Raises:
        Diverged: It does not answer as its parent does. Nothing was written; the error has the
            report.
        InvalidInput: The options do not go together, or the name is taken.
        InvalidArtifact: The parent does not load, or the format cannot hold it.
        InvalidDataset: The images or labels cannot be used.
        MissingExtra, DeviceUnavailable, NotWritable: A library, a device or space is missing.
    """
    check(options)
    check_here(options.to)
    name = check_name(default_name(artifact, options) if name is None else name)
    store.check_free(name, replace=True)  # of a tag; the same export once more is no error
    chosen, shown = compared_files(images), read_images(images)
    labelled = None
    if annotations is not None:
        kind = "yolo" if annotations.suffix in (".yaml", ".yml") else "coco"
        labelled = read_labelled(f"{kind}:{images}", annotations)
    threads = usable_cores()
    on_progress(f"opening {artifact.manifest.name}")
    parent = open_parent(artifact, options, threads=threads)
    known = ParentAnswers() if known is None else known
    with contextlib.closing(parent.engine), store.staging() as folder:
        graph, manifest = parent.graph, parent.manifest
        if options.fuse_nms:
            graph = type(parent.graph)()
            graph.CopyFrom(parent.graph)
            manifest = fuse(graph, parent.manifest)
            describe(graph, manifest)
        on_progress(f"writing {options.to} {options.precision}")
        written = write(folder, parent, graph, manifest, options)
        with contextlib.closing(written.open(threads)) as child:
            report = verify(
                artifact, parent, written, child, shown, labelled, options,
                known=known, on_progress=on_progress,
            )  # fmt: skip
        side = msgspec.structs.replace(report.child, artifact=name)
        report = msgspec.structs.replace(
            report,
            child=side,
            images_digest=images_digest(
                (file.relative_to(images).as_posix(), file.read_bytes()) for file in chosen
            ),
        )
        if report.verdict.outcome == "fails":
            raise _diverged(name, artifact, report)
        (folder / REPORT_FILE).write_bytes(encode_json(report))
        config = {**options.config(), "proven_in": written.computes}
        manifest = msgspec.structs.replace(
            written.manifest,
            name=name,
            parent=artifact.digest,
            step=Step("export", config, versions(*TOOLS)),
            metrics=report.metrics(),
            files=(),
        )
        return store.commit(folder, manifest, replace=replace)


def _diverged(name: str, parent: Artifact, report: ExportReport) -> Diverged:
    """The error for an export that fails its gate, with the first layer that differs."""
    where = ""
    if report.first_difference is not None and report.first_difference.first:
        first = report.first_difference.first
        where = (
            f" The graphs differ from {first.operator} {first.node} on (error {first.error:.3g})."
        )
    return Diverged(
        f"{name} does not answer as its parent {parent.manifest.name} does. "
        f"{report.verdict.statement}{where}",
        hint="nothing was written; --json prints the report with the layers that differ",
        report=report,
    )


def default_name(artifact: Artifact, options: ExportOptions) -> str:
    """``yolo11n-openvino-f16``; canvas and postprocessing are named where they change."""
    # A graph that is quantised already stays so.
    precision = "int8" if artifact.manifest.precision == "int8" else options.precision
    parts = [artifact.manifest.name, options.to, precision]
    if options.imgsz is not None:
        height, width = options.imgsz
        parts.append(str(height) if height == width else f"{height}x{width}")
    parts += ["fused"] if options.fuse_nms else []
    return "-".join(parts)
