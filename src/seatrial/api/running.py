"""evaluate, export, bench and judge as functions, which return what the commands print as JSON."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import msgspec

from seatrial.api.home import home, store
from seatrial.api.loading import LoadedDetector, LoadOptions, deployment_of, load, open_model
from seatrial.client.credentials import Credentials
from seatrial.deployment import Precision
from seatrial.errors import InvalidConfig
from seatrial.progress import Progress, silent

if TYPE_CHECKING:
    from seatrial.accuracy.evaluate import Evaluation
    from seatrial.artifact import Artifact
    from seatrial.bench.options import BenchOptions, MeasureOptions
    from seatrial.bench.report_data import BenchReport
    from seatrial.export.report import ExportReport
    from seatrial.trial.report import VerdictReport


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
        annotations: COCO's JSON file, another data.yaml, or a list of classes; default: found in
            the folder.
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
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
    on_progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> BenchReport:
    """Measure a running service, or one that is started for it, and explain the result.

    Args:
        images: Folder of images; or `seatrial.bench.options.BenchOptions`, which name it and say
            what is measured.
        model: As `load` takes it: a service of it is started, and ended afterwards.
        url: Address of a running service, in place of a model.
        token: Bearer token for it.
        ca_file: Authorities that its https certificate is checked by, PEM; default: the machine's.
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
    from seatrial.bench.options import BenchOptions, require_client
    from seatrial.bench.scenarios import plan

    require_client()
    from seatrial.bench.run import run_benchmark
    from seatrial.load.target import Target

    _check_service(model, url, options)
    measured = images if isinstance(images, BenchOptions) else BenchOptions(images=str(images))
    plan(measured)  # what is wrong is reported before a service is started
    shown = Credentials(token, ca_file)
    with _service(model, url, options, on_progress) as (address, _):
        return run_benchmark(Target(address), measured, on_progress, credentials=shown)


def judge(
    contract: str | PathLike[str],
    *,
    model: str | PathLike[str] | None = None,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
    dataset: str | None = None,
    annotations: str | PathLike[str] | None = None,
    split: Literal["train", "val", "test"] = "test",
    skip_missing: bool = False,
    images: str | PathLike[str] | None = None,
    measure: MeasureOptions | None = None,
    output: str | PathLike[str] | None = None,
    on_progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> VerdictReport:
    """Measure a running service, or one that is started for it, and judge all clauses.

    A contract that does not hold is no error: see ``.verdict.outcome``.

    Args:
        contract: TOML file with the clauses.
        model: As `load` takes it: a service of it is started, and ended afterwards.
        url: Address of a running service, in place of a model.
        token: Bearer token for it.
        ca_file: Authorities that its https certificate is checked by, PEM; default: the machine's.
        dataset: ``coco:FOLDER`` of images, ``yolo:FOLDER`` or ``voc:FOLDER``: labelled images that
            training has not seen. Needed where the contract judges accuracy.
        annotations: COCO's JSON file, another data.yaml, or a list of classes; default: found in
            the folder.
        split: Which set, where the folder has several. Training chooses the epoch on ``"val"``.
        skip_missing: Leave out images that the labels name and that are not there.
        images: Folder of images to send; default: those of the dataset.
        measure: `seatrial.bench.options.MeasureOptions`: how much is measured, and how long.
        output: Folder for verdict.html, verdict.json and the reports that they rest on; default:
            nothing is written.
        on_progress: Called with the progress.
        **options: As for `load`, with a model.

    Returns:
        What ``verdict.json`` holds; ``.verdict.outcome`` is ``"holds"``, ``"fails"`` or
        ``"undecided"``.

    Raises:
        InvalidConfig: The contract or an option is wrong, images are missing for a clause, or
            neither a model nor an address is given, or both.
        InvalidDataset: Labels or images cannot be used.
        ServiceFailed: The service does not start, does not answer, or dies.
        NotWritable: The folder cannot be written to.
        MissingExtra: A package of the extras ``bench``, ``evaluate`` or ``serve`` is not installed.
    """
    from seatrial.trial.plan import read_trial

    _check_service(model, url, options)
    shown = Credentials(token, ca_file)
    trial = read_trial(
        Path(contract),
        dataset=dataset,
        annotations=None if annotations is None else Path(annotations),
        split=split,
        skip_missing=skip_missing,
        images=None if images is None else Path(images),
        measure=measure,
    )
    from seatrial.load.target import Target
    from seatrial.trial.html_report import check_places, write_verdict
    from seatrial.trial.run import judge_service

    if output is not None:
        check_places(trial, Path(output))
    with _service(model, url, options, on_progress) as (address, artifact):
        made = judge_service(
            Target(address),
            trial,
            lineage=lambda digest: store().lineage(artifact or store().with_digest(digest)),
            on_progress=on_progress,
            credentials=shown,
        )
    return made.report if output is None else write_verdict(made, Path(output))


def _check_service(
    model: str | PathLike[str] | None, url: str | None, options: LoadOptions
) -> None:
    """Check that there is one service: a running one, or one of a model.

    Raises:
        InvalidConfig: Neither or both are given, or options for one that runs already.
    """
    if (model is None) == (url is None):
        raise InvalidConfig(
            "give a model or the address of a running service",
            hint='for example model="yolo11n", or url="http://127.0.0.1:3000"',
        )
    if url is not None and options:
        raise InvalidConfig(f"a running service takes no other {', '.join(options)}")


@contextlib.contextmanager
def _service(
    model: str | PathLike[str] | None,
    url: str | None,
    options: LoadOptions,
    on_progress: Progress,
) -> Iterator[tuple[str, Artifact | None]]:
    """A running service: the one given, or one of the model for as long as the block lasts.

    Yields:
        Its address, and its artifact where it was started here.
    """
    if model is None:
        yield str(url), None
        return
    from seatrial.serve.process import scratch_service
    from seatrial.serve.service_folder import environment

    artifact = open_model(model, allow_pickle=options.get("allow_pickle", False))
    deployment = deployment_of(model, **options)
    where = home() / "services"
    with scratch_service(
        deployment, artifact, where, environment(os.environ), on_progress
    ) as running:
        yield running.url, artifact
