"""``seatrial bench``: measure a service, explain the result, write the report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter, default_name_transform

from seatrial.bench.options import BenchOptions, require_client
from seatrial.cli.bench_runtimes import bench_runtimes
from seatrial.cli.console import command_line, err, home, out, print_json, progress_display
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.cli.running import check_images, check_service, image_pixels, running_service
from seatrial.cli.verdict import leave, show_verdict
from seatrial.contract import Contract
from seatrial.deployment import RuntimeName
from seatrial.errors import InvalidConfig
from seatrial.load.samples import ProtocolName

if TYPE_CHECKING:
    from seatrial.bench.report_data import BenchReport
    from seatrial.gate import Verdict
    from seatrial.load.ceiling import Ceiling
    from seatrial.load.images import ImageSet
    from seatrial.load.in_process import InProcessTarget
    from seatrial.load.target import Target
    from seatrial.progress import Progress

SEVERAL = Parameter(consume_multiple=True)


def _option_name(field: str) -> str:
    return "rate" if field == "rates" else default_name_transform(field)


def bench(
    scenario: tuple[str, ...] = ("single-stream", "scaling"),
    /,
    *,
    options: Annotated[
        BenchOptions,
        Parameter(name="*", name_transform=_option_name, consume_multiple=True),
    ],
    url: str | None = None,
    credentials: CredentialOptions | None = None,
    service: DeploymentOptions | None = None,
    in_process: bool = False,
    on: Annotated[tuple[RuntimeName, ...], SEVERAL] = (),
    protocol: Annotated[tuple[ProtocolName, ...], SEVERAL] = (),
    rounds: int | None = None,
    triton: TritonOptions | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
    path: str = "/detect",
    field: str | None = None,
    contract: Path | None = None,
    history: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a running service (--url), or one that is started for it (--model).

    Closed loops, in which answers pace the requests: single-stream (one request at a time),
    multi-stream (several images a query), scaling (1, 2, 4, 8 sessions), offline (a folder as fast
    as it goes). Open loops, in which requests arrive by a schedule and latency counts from the
    time when each is due: server (at a rate, or the highest that holds), replay (of a log), soak
    (hours). Writes report.html and report.json.

    With several runtimes (--on) or protocols, the service is started on each runtime in turn and
    measured by each protocol, in several rounds; the report has the figures side by side.

    Args:
        scenario: Names of scenarios, in the order in which they run: single-stream, multi-stream,
            server, offline, scaling, replay, soak.
        options: What to measure.
        url: Address of a running service: http://HOST:PORT, or grpc://HOST:PORT for the Open
            Inference Protocol over gRPC.
        credentials: What it wants to see.
        service: What to start, where no --url is given.
        in_process: Measure the detector in the process of the client, without a service and HTTP.
        on: Runtimes to start it on, one or several: bentoml, uvicorn, triton [default: that of the
            deployment].
        protocol: How images are sent: http (POST /detect), v2 (the Open Inference Protocol over
            HTTP), grpc (the same over gRPC); one, or several for a service that is started here
            [default: http, or v2 where the service knows only that; with several runtimes v2 and
            grpc, which all of them know].
        rounds: Number of rounds over all runtimes and protocols [default: 3 with several of them].
        triton: The server that --on triton starts.
        output: Folder for report.html and report.json.
        path: Path at which a foreign service takes images; with v2 and grpc the model's name
            [default there: the first that takes an encoded image].
        field: Multipart field of a foreign service [default: the raw body].
        contract: TOML file; its latency and load clauses are judged. Exit code 8: they do not
            hold; 9: it cannot be decided.
        history: File to which the figures are appended, as a line of JSON with the time and the
            commit; seatrial compare --history finds where they changed.
        json: Print the report as JSON too.
    """
    require_client()
    from seatrial.bench.scenarios import (
        check_read,
        check_side_by_side,
        is_open,
        plan,
        searching,
    )
    from seatrial.load.images import load_images
    from seatrial.load.target import DETECT, Target, base_url
    from seatrial.system.files import check_place, check_writable

    # What is wrong is reported before a service is started, not after a minute of load.
    wanted = (
        None if contract is None else Contract.read(contract, judged=["latency", "load", "server"])
    )
    options = replace(options, scenarios=scenario)
    check_read(options)
    check_images(Path(options.images))
    if wanted is not None and wanted.server is not None and not options.rates:
        options = searching(options, wanted.server)
    plan(options)
    check_writable(output)
    if history is not None:
        check_writable(history.parent)
        check_place(history, hint="name a file: --history history.jsonl")
    service, triton = service or DeploymentOptions(), triton or TritonOptions()
    check_service(url, service)
    several = len({*on}) > 1 or len({*protocol}) > 1 or rounds is not None
    one = protocol[0] if protocol else None
    if url is not None:
        if several or on or triton != TritonOptions():
            raise InvalidConfig(
                "--url measures one running service by one protocol, where it runs",
                hint="leave --url out to start a deployment on runtimes (--deployment, --on)",
            )
        base_url(Target(url, protocol=one))
    elif several and (contract or history or path != DETECT or field is not None):
        raise InvalidConfig(
            "--contract, --history, --path and --field are for one runtime and one protocol",
            hint="measure that one: --on triton --protocol grpc, without --rounds",
        )
    of_service = url or several or on or protocol or path != DETECT or field is not None
    if in_process and (of_service or options.client_processes > 1):
        raise InvalidConfig(
            "--in-process measures a detector without a service; it has no address, runtime, "
            "protocol or path, and one client process",
            hint="leave --in-process out, or the others",
        )
    if several:
        check_side_by_side(options)
    shown = (credentials or CredentialOptions()).read(url)
    images = load_images(
        Path(options.images),
        limit=options.image_limit,
        seed=options.seed,
        max_pixels=image_pixels(url, service),
    )
    if several:
        bench_runtimes(
            service, triton, on, protocol, options, images, rounds, output=output, json=json
        )
        return
    from seatrial.bench.run import BenchCut, BenchInterrupted, run_benchmark
    from seatrial.trial.verdict import judge_contract

    chosen = on[0] if on else None
    try:
        with contextlib.ExitStack() as stack:
            if in_process:
                target, detector = stack.enter_context(_opened(service))
            else:
                grpc = one == "grpc"
                running = running_service(url, service, grpc=grpc, triton=triton, runtime=chosen)
                address, _ = stack.enter_context(running)
                target = Target(address, path=path, field=field, protocol=one)
                detector = None
            on_progress = stack.enter_context(progress_display())
            watched = is_open(options) and not in_process
            report = run_benchmark(
                target,
                options,
                on_progress,
                command=command_line(),
                images=images,
                credentials=shown,
                detector=detector,
                ceiling=partial(_ceiling, options, images, on_progress) if watched else None,
            )
    except (BenchInterrupted, BenchCut) as cut:
        _show(cut.report, None, output, None, json=json)
        raise
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    verdict = None if wanted is None else judge_contract(wanted, report=report)
    _show(msgspec.structs.replace(report, verdict=verdict), verdict, output, history, json=json)


def _ceiling(options: BenchOptions, images: ImageSet, on_progress: Progress) -> Ceiling:
    """The client's own limit, measured once on a machine; warns where the run is near it."""
    from seatrial.load.ceiling import ceiling_of, warning_for

    mean_bytes = sum(len(image.data) for image in images.images) // len(images.images)
    found = ceiling_of(home() / "client.json", mean_bytes, on_progress)
    warning = warning_for(found, max(options.rates, default=0.0), options.client_processes)
    if warning:
        on_progress(f"warning: {warning}")
    return found


@contextlib.contextmanager
def _opened(service: DeploymentOptions) -> Iterator[tuple[Target, InProcessTarget | None]]:
    """The detector of the options in this process, and what the report calls it."""
    from seatrial.api.in_process import opened_in_process
    from seatrial.bench.run import IN_PROCESS

    deployment = service.resolve()
    with opened_in_process(deployment, service.open(deployment)) as detector:
        yield IN_PROCESS, detector


def _show(
    report: BenchReport,
    verdict: Verdict | None,
    output: Path,
    history: Path | None,
    *,
    json: bool,
) -> None:
    """Print the report, write it, and end with the verdict's exit code.

    It is printed first: a disk that has filled up meanwhile loses no measurement.
    """
    from seatrial.bench.report import write_report
    from seatrial.bench.terminal import render_terminal

    if json:
        print_json(report)
    else:
        out.print(render_terminal(report))
    try:
        html, data = write_report(report, output / "report.html")
        err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
        if history is not None:
            from seatrial.bench.history import append_history

            append_history(history, report)
            err.print(f"appended the figures to {history}", highlight=False, soft_wrap=True)
    finally:
        if verdict is not None:
            show_verdict(verdict, json=json)
    leave(verdict)
