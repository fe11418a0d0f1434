"""``seatrial loadgen``: MLPerf's own load generator against a service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seatrial.bench.loadgen_options import LoadgenOptions, LoadgenScenario, require_loadgen
from seatrial.bench.options import require_client
from seatrial.cli.console import command_line, err, out, print_json, progress_display
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.running import check_images, check_service, image_pixels, running_service
from seatrial.errors import GATE_FAILS
from seatrial.load.samples import ProtocolName


def loadgen(
    scenario: LoadgenScenario,
    /,
    *,
    options: Annotated[LoadgenOptions, Parameter(name="*")],
    url: str | None = None,
    credentials: CredentialOptions | None = None,
    service: DeploymentOptions | None = None,
    protocol: ProtocolName | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("loadgen"),
    path: str = "/detect",
    field: str | None = None,
    json: bool = False,
) -> None:
    """Have MLPerf LoadGen measure a running service (--url), or one that is started (--model).

    LoadGen decides what is sent when, keeps the time and judges the run; the requests are sent by
    the clients of seatrial bench. Its logs stay in the output folder, with loadgen.json beside
    them. LoadGen knows no failed requests: with one of them the run is INVALID here.

    Exit code 8: the run is INVALID.

    Args:
        scenario: single-stream, multi-stream, server or offline.
        options: What to measure.
        url: Address of a running service: http://HOST:PORT, or grpc://HOST:PORT for the Open
            Inference Protocol over gRPC.
        credentials: What it wants to see.
        service: What to start, where no --url is given.
        protocol: How images are sent: http (POST /detect), v2 (the Open Inference Protocol over
            HTTP), grpc (the same over gRPC) [default: http, or v2 where the service knows only
            that].
        output: Folder for LoadGen's logs and loadgen.json.
        path: Path at which a foreign service takes images; with v2 and grpc the model's name
            [default there: the first that takes an encoded image].
        field: Multipart field of a foreign service [default: the raw body].
        json: Print loadgen.json instead of the table.
    """
    require_client()
    require_loadgen()
    from seatrial.bench.loadgen import run_loadgen
    from seatrial.bench.loadgen_report import render_loadgen, write_loadgen_report
    from seatrial.load.images import load_images
    from seatrial.load.target import Target, base_url
    from seatrial.system.files import check_writable

    # What is wrong is reported before a service is started.
    check_images(Path(options.images))
    options.check(scenario)
    check_writable(output)
    service = service or DeploymentOptions()
    check_service(url, service)
    if url is not None:
        base_url(Target(url, path=path, field=field, protocol=protocol))
    shown = (credentials or CredentialOptions()).read(url)
    images = load_images(
        Path(options.images),
        limit=options.image_limit,
        seed=options.seed,
        max_pixels=image_pixels(url, service),
    )
    grpc = protocol == "grpc"
    with running_service(url, service, grpc=grpc) as (address, _), progress_display() as told:
        report = run_loadgen(
            Target(address, path=path, field=field, protocol=protocol),
            scenario,
            options,
            output,
            told,
            command=command_line(),
            images=images,
            credentials=shown,
        )
    if json:
        print_json(report)
    else:
        out.print(render_loadgen(report))
    for reason in report.reasons:
        err.print(f"{reason}.", highlight=False)
    file = write_loadgen_report(report, output)
    err.print(f"wrote {file} beside LoadGen's logs", highlight=False, soft_wrap=True)
    if not report.valid:
        sys.exit(GATE_FAILS)
