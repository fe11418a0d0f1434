"""evaluate, export, bench and judge as functions, which return what the commands print as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, get_args, overload

import msgspec

from seatrial.api.home import store
from seatrial.api.loading import LoadedDetector, LoadOptions, load, open_model
from seatrial.api.services import NamedService, StartOptions, credentials_for
from seatrial.deployment import Precision, RuntimeName
from seatrial.errors import InvalidConfig, did_you_mean
from seatrial.progress import Progress, silent

if TYPE_CHECKING:
    from seatrial.accuracy.evaluate import Evaluation
    from seatrial.bench.options import BenchOptions, MeasureOptions
    from seatrial.bench.report_data import BenchReport
    from seatrial.bench.side_by_side import SideBySide
    from seatrial.export.report import ExportReport
    from seatrial.load.samples import ProtocolName
    from seatrial.trial.report import VerdictReport

T = TypeVar("T", bound=str)


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


@overload
def bench(
    images: str | PathLike[str] | BenchOptions,
    *,
    model: str | PathLike[str] | None = ...,
    deployment: str | PathLike[str] | None = ...,
    url: str | None = ...,
    token: str | None = ...,
    ca_file: str | PathLike[str] | None = ...,
    on: RuntimeName | None = ...,
    protocol: ProtocolName | None = ...,
    rounds: None = ...,
    on_progress: Progress = ...,
    **options: Unpack[StartOptions],
) -> BenchReport: ...
@overload
def bench(
    images: str | PathLike[str] | BenchOptions,
    *,
    model: str | PathLike[str] | None = ...,
    deployment: str | PathLike[str] | None = ...,
    on: RuntimeName | Sequence[RuntimeName] | None = ...,
    protocol: ProtocolName | Sequence[ProtocolName] | None = ...,
    rounds: int | None = ...,
    on_progress: Progress = ...,
    **options: Unpack[StartOptions],
) -> SideBySide: ...


def bench(
    images: str | PathLike[str] | BenchOptions,
    *,
    model: str | PathLike[str] | None = None,
    deployment: str | PathLike[str] | None = None,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
    on: RuntimeName | Sequence[RuntimeName] | None = None,
    protocol: ProtocolName | Sequence[ProtocolName] | None = None,
    rounds: int | None = None,
    on_progress: Progress = silent,
    **options: Unpack[StartOptions],
) -> BenchReport | SideBySide:
    """Measure a running service, or one that is started for it, and explain the result.

    With a list of runtimes or of protocols, or a number of rounds, the service is started on each
    runtime in turn and measured by each protocol, in several rounds.

    Args:
        images: Folder of images; or `seatrial.bench.options.BenchOptions`, which name it and say
            what is measured.
        model: As `load` takes it: a service of it is started, and ended afterwards.
        deployment: TOML file that describes the service, in place of a model; a model and options
            override it.
        url: Address of a running service, in place of both.
        token: Bearer token for it.
        ca_file: Authorities that its https certificate is checked by, PEM; default: the machine's.
        on: Runtime to start it on, or a list of them: ``"bentoml"``, ``"uvicorn"``, ``"triton"``;
            default: that of the deployment.
        protocol: How images are sent, or a list: ``"http"`` (``POST /detect``), ``"v2"`` (the Open
            Inference Protocol over HTTP), ``"grpc"`` (the same over gRPC); default: ``"http"``, or
            ``"v2"`` where the service knows only that; with several runtimes ``"v2"`` and
            ``"grpc"``, which all of them know.
        rounds: Number of rounds over all runtimes and protocols; default: 3 with a list.
        on_progress: Called with the progress.
        **options: As for `load`, with a model; and ``triton_python`` (Python of an environment with
            nvidia-pytriton) and ``triton_image``, of the server that ``on="triton"`` starts.

    Returns:
        What ``seatrial bench --json`` prints; `seatrial.bench.report.write_report` writes the
        page. With a list, or rounds, the figures side by side
        (`seatrial.bench.side_by_side.SideBySide`), of which
        `seatrial.bench.side_by_side_page.write_side_by_side` writes the page.

    Raises:
        InvalidConfig: Neither a model nor an address, both, or a wrong option.
        InvalidDataset: No image can be used.
        ServiceFailed: The service does not start, does not answer, or dies; of several, none of
            them could be measured.
        MissingExtra: A package of the extras ``bench`` or ``serve`` is not installed.
    """
    from seatrial.bench.options import BenchOptions, require_client
    from seatrial.bench.scenarios import plan

    require_client()
    from seatrial.bench.run import run_benchmark
    from seatrial.load.images import load_images
    from seatrial.load.samples import ProtocolName
    from seatrial.load.target import Target

    runtimes = _listed("runtime", on, RuntimeName)
    protocols = _listed("protocol", protocol, ProtocolName)
    if rounds is not None and (not isinstance(rounds, int) or rounds < 1):
        raise InvalidConfig(f"rounds must be a whole number from 1 on, not {rounds!r}")
    several = rounds is not None or not (_is_one(on) and _is_one(protocol))
    if several and url is not None:
        raise InvalidConfig(
            "a running service is measured by one protocol, where it runs",
            hint="name a model or a deployment to have it started on runtimes",
        )
    one = runtimes[0] if runtimes and not several else None
    service = NamedService(model, deployment, url, one, options)
    measured = images if isinstance(images, BenchOptions) else BenchOptions(images=str(images))
    shown = credentials_for(url, token, ca_file)
    plan(measured)  # what is wrong is reported before a service is started
    found = load_images(
        Path(measured.images),
        limit=measured.image_limit,
        seed=measured.seed,
        max_pixels=service.image_pixels,
    )
    if several:
        from seatrial.api.side_by_side import bench_runtimes

        described, artifact = service.open()
        return bench_runtimes(
            described, artifact, runtimes, protocols, measured, found, rounds, on_progress,
            file=service.file,
        )  # fmt: skip
    by = protocols[0] if protocols else None
    with service.running(on_progress, grpc=by == "grpc") as (address, _):
        return run_benchmark(
            Target(address, protocol=by), measured, on_progress, images=found, credentials=shown
        )


def _is_one(given: str | Sequence[str] | None) -> bool:
    """Whether at most one is named, and not in a list."""
    return given is None or isinstance(given, str)


def _listed(what: str, given: T | Sequence[T] | None, known: Any) -> tuple[T, ...]:
    """The given names, each a value of the literal type `known`."""
    if given is None:
        return ()
    listed = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else (*given,)
    names = get_args(known)
    for one in listed:
        if one not in names:
            hint = did_you_mean(str(one), names, otherwise=f"known: {', '.join(names)}")
            raise InvalidConfig(f"unknown {what} {one!r}", hint=hint)
    return listed


def judge(
    contract: str | PathLike[str],
    *,
    model: str | PathLike[str] | None = None,
    deployment: str | PathLike[str] | None = None,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | PathLike[str] | None = None,
    on: RuntimeName | None = None,
    dataset: str | None = None,
    annotations: str | PathLike[str] | None = None,
    split: Literal["train", "val", "test"] = "test",
    skip_missing: bool = False,
    images: str | PathLike[str] | None = None,
    measure: MeasureOptions | None = None,
    output: str | PathLike[str] | None = None,
    on_progress: Progress = silent,
    **options: Unpack[StartOptions],
) -> VerdictReport:
    """Measure a running service, or one that is started for it, and judge all clauses.

    A contract that does not hold is no error: see ``.verdict.outcome``.

    Args:
        contract: TOML file with the clauses.
        model: As `load` takes it: a service of it is started, and ended afterwards.
        deployment: TOML file that describes the service, in place of a model; a model and options
            override it.
        url: Address of a running service, in place of both.
        token: Bearer token for it.
        ca_file: Authorities that its https certificate is checked by, PEM; default: the machine's.
        on: Runtime to start it on: ``"bentoml"``, ``"uvicorn"``, ``"triton"``; default: that of the
            deployment.
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
        **options: As for `load`, with a model; and ``triton_python`` and ``triton_image``, as for
            `bench`.

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

    service = NamedService(model, deployment, url, on, options)
    shown = credentials_for(url, token, ca_file)
    trial = read_trial(
        Path(contract),
        dataset=dataset,
        annotations=None if annotations is None else Path(annotations),
        split=split,
        skip_missing=skip_missing,
        images=None if images is None else Path(images),
        measure=measure,
        max_pixels=service.image_pixels,
    )
    from seatrial.load.target import Target
    from seatrial.trial.html_report import check_places, write_verdict
    from seatrial.trial.run import judge_service

    if output is not None:
        check_places(trial, Path(output))
    with service.running(on_progress) as (address, artifact):
        made = judge_service(
            Target(address),
            trial,
            lineage=lambda digest: store().lineage(artifact or store().with_digest(digest)),
            on_progress=on_progress,
            credentials=shown,
        )
    return made.report if output is None else write_verdict(made, Path(output))
