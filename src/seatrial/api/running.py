"""The commands evaluate, export and bench as functions; they return the structs printed there."""

from __future__ import annotations

import contextlib
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import msgspec

from seatrial.api.home import home, store
from seatrial.api.loading import LoadedDetector, LoadOptions, deployment_of, load, open_model
from seatrial.deployment import Precision
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress, silent

if TYPE_CHECKING:
    from seatrial.accuracy.evaluate import Evaluation
    from seatrial.bench.options import BenchOptions
    from seatrial.bench.report_data import BenchReport
    from seatrial.export.report import ExportReport


def evaluate(
    model: str | PathLike[str] | LoadedDetector,
    dataset: str,
    *,
    annotations: str | PathLike[str] | None = None,
    split: Literal["train", "val", "test"] = "val",
    threshold: float = 0.25,
    unmatched: Literal["error", "ignore"] = "error",
    skip_missing: bool = False,
    on_progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> Evaluation:
    """Measure accuracy on labelled images, by COCO's rules.

    Detections are taken down to confidence 0.001 (IoU 0.7, 300 an image, several labels a box),
    as published figures are.

    Args:
        model: As `load` takes it, or a loaded detector, which stays open.
        dataset: ``coco:FOLDER`` of images, ``yolo:FOLDER`` with a data.yaml, or ``voc:FOLDER``.
        annotations: COCO's JSON file; default: ``FOLDER/instances.json``. Another data.yaml.
        split: Which set, where the folder has several.
        threshold: Confidence at which precision and recall are given, 0-1.
        unmatched: What to do with classes that only the model or only the dataset has.
        skip_missing: Leave out images that the labels name and that are not there.
        on_progress: Called with the progress.
        **options: As for `load`, where a model is named.

    Returns:
        What ``seatrial evaluate --json`` prints; ``.scores.figures.ap`` is COCO's mAP.

    Raises:
        InvalidDataset: The labels or the images cannot be used.
        SeatrialError: See `load`.
    """
    from seatrial.accuracy.evaluate import evaluate as measure
    from seatrial.accuracy.predict import InProcess
    from seatrial.datasets.read import read_labelled

    if not 0 <= threshold <= 1:
        raise InvalidConfig(f"threshold {threshold:g} is not between 0 and 1")
    labels = None if annotations is None else Path(annotations)
    labelled = read_labelled(dataset, labels, split=split, skip_missing=skip_missing)
    with contextlib.ExitStack() as opened:
        if isinstance(model, LoadedDetector):
            if options:
                raise InvalidConfig(
                    f"a loaded detector takes no other {', '.join(options)}",
                    hint="name the model to have it loaded with options",
                )
            loaded = model
        else:
            loaded = opened.enter_context(load(model, **options))
        return measure(
            InProcess(loaded.detector),
            labelled,
            threshold=float(threshold),  # a NumPy number does not go into JSON
            unmatched=unmatched,
            on_progress=on_progress,
        ).report


def export(
    model: str | PathLike[str],
    *,
    to: Literal["onnx", "openvino", "tensorrt", "torch"],
    images: str | PathLike[str],
    annotations: str | PathLike[str] | None = None,
    precision: Precision = "f32",
    dynamic_batch: bool = False,
    imgsz: tuple[int, int] | None = None,
    fuse_nms: bool = False,
    name: str | None = None,
    replace: bool = False,
    allow_pickle: bool = False,
    on_progress: Progress = silent,
) -> ExportReport:
    """Make another format or precision of a model, and prove that it answers as the model does.

    Args:
        model: As `load` takes it.
        to: ``"onnx"``, ``"openvino"``, ``"tensorrt"`` or ``"torch"``.
        images: Folder of real images to compare on.
        annotations: Their labels, COCO's JSON or a data.yaml: accuracy is compared too.
        precision: ``"f32"``, ``"f16"`` or ``"bf16"``.
        dynamic_batch: Take any number of images at once.
        imgsz: Canvas (height, width), pixels; default: the model's own.
        fuse_nms: Put the postprocessing into the graph.
        name: Name of the artifact; default: the model's, with format and precision.
        replace: Replace another artifact of that name.
        allow_pickle: Read a ``.pt`` file, although reading it runs code that is in it.
        on_progress: Called with the progress.

    Returns:
        What ``seatrial export --json`` prints; the artifact is in the store under its name.

    Raises:
        InvalidInput: The options do not go together.
        Diverged: The export does not answer as the model does; nothing is written, and the
            error's ``report`` says where they differ.
        SeatrialError: See `load`.
    """
    from seatrial.export.formats import check_here
    from seatrial.export.options import ExportOptions, check
    from seatrial.export.report import REPORT_FILE, ExportReport
    from seatrial.export.run import export as run

    options = ExportOptions(
        to=to,
        precision=precision,
        dynamic_batch=dynamic_batch,
        imgsz=imgsz,
        fuse_nms=fuse_nms,
    )
    check(options)
    check_here(to)
    made = run(
        store(),
        open_model(model, allow_pickle=allow_pickle),
        options,
        images=Path(images),
        annotations=None if annotations is None else Path(annotations),
        name=name,
        replace=replace,
        on_progress=on_progress,
    )
    return msgspec.json.decode((made.path / REPORT_FILE).read_bytes(), type=ExportReport)


def bench(
    images: str | PathLike[str] | BenchOptions,
    *,
    model: str | PathLike[str] | None = None,
    url: str | None = None,
    on_progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> BenchReport:
    """Measure a running service, or one that is started for it, and explain the result.

    Args:
        images: Folder of images; or `seatrial.bench.options.BenchOptions`, which name it and say
            what is measured.
        model: As `load` takes it: a service of it is started, and ended afterwards.
        url: Address of a running service, in place of a model.
        on_progress: Called with the progress.
        **options: As for `load`, with a model.

    Returns:
        What ``seatrial bench --json`` prints; `seatrial.bench.report.write_report` writes the
        page.

    Raises:
        InvalidConfig: Neither a model nor an address, both, or a wrong option.
        InvalidDataset: No image can be used.
        ServiceFailed: The service does not start, does not answer, or dies.
        MissingExtra: A package of the extras ``bench`` or ``serve`` is not installed.
    """
    from seatrial.bench.options import BenchOptions
    from seatrial.bench.scenarios import plan
    from seatrial.system.extras import require

    for module in ("aiohttp", "jinja2", "psutil", "uvloop"):
        require(module, extra="bench", purpose="measuring a service")
    from seatrial.bench.run import run_benchmark
    from seatrial.load.target import Target

    if (model is None) == (url is None):
        raise InvalidConfig(
            "give a model or the address of a running service",
            hint='bench("photos", model="yolo11n") or bench("photos", url="http://...")',
        )
    if url is not None and options:
        raise InvalidConfig(f"a running service takes no other {', '.join(options)}")
    measured = images if isinstance(images, BenchOptions) else BenchOptions(images=str(images))
    plan(measured)  # what is wrong is reported before a service is started
    if model is None:
        return run_benchmark(Target(str(url)), measured, on_progress)
    from seatrial.serve.process import environment, scratch_service

    artifact = open_model(model, allow_pickle=options.get("allow_pickle", False))
    service = scratch_service(
        deployment_of(model, **options),
        artifact,
        home() / "services",
        environment(os.environ),
        on_progress,
    )
    with service as running:
        return run_benchmark(Target(running.url), measured, on_progress)
