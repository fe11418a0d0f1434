"""``seatrial bench``: measure a service, explain the result, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter, default_name_transform

from seatrial.bench.options import BenchOptions, require_client
from seatrial.cli.console import command_line, err, out, print_json, progress_display
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.running import check_service, running_service
from seatrial.cli.verdict import leave, show_verdict
from seatrial.contract import Contract
from seatrial.errors import InvalidConfig


def _option_name(field: str) -> str:
    return "scenario" if field == "scenarios" else default_name_transform(field)


def bench(
    *,
    options: Annotated[
        BenchOptions,
        Parameter(name="*", name_transform=_option_name, consume_multiple=True),
    ],
    url: str | None = None,
    credentials: CredentialOptions | None = None,
    service: DeploymentOptions | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
    protocol: Literal["http", "grpc"] | None = None,
    path: str = "/detect",
    field: str | None = None,
    contract: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a running service (--url), or one that is started for it (--model).

    Two scenarios, both closed-loop. single-stream: one request at a time. scaling: 1, 2, 4, 8
    sessions at a time. Writes report.html and report.json.

    Args:
        options: What to measure.
        url: Address of a running service: http://HOST:PORT, or grpc://HOST:PORT for the Open
            Inference Protocol over gRPC.
        credentials: What it wants to see.
        service: What to start, where no --url is given.
        output: Folder for report.html and report.json.
        protocol: http or grpc: how a service that is started here is measured [default: http].
        path: Path at which a foreign service takes images; over gRPC, the model's name [default
            there: the first that the service has].
        field: Multipart field of a foreign service [default: the raw body].
        contract: TOML file; its latency and load clauses are judged. Exit code 8: they do not
            hold; 9: it cannot be decided.
        json: Print the report as JSON too.
    """
    require_client()
    from seatrial.bench.report import write_report
    from seatrial.bench.run import run_benchmark
    from seatrial.bench.scenarios import plan
    from seatrial.bench.terminal import render_terminal
    from seatrial.load.images import load_images
    from seatrial.load.target import Target
    from seatrial.system.files import check_writable
    from seatrial.trial.verdict import judge_contract

    # What is wrong is reported before a service is started, not after a minute of load.
    plan(options)
    wanted = None if contract is None else Contract.read(contract, judged=["latency", "load"])
    check_writable(output)
    service = service or DeploymentOptions()
    check_service(url, service)
    grpc = protocol == "grpc"
    if url is not None and protocol is not None and grpc != url.startswith(("grpc://", "grpcs://")):
        raise InvalidConfig(
            f"--protocol {protocol} does not fit the address {url}",
            hint="leave --protocol out: the scheme of the address says it, http:// or grpc://",
        )
    shown = (credentials or CredentialOptions()).read(url)
    images = load_images(Path(options.images), limit=options.image_limit, seed=options.seed)
    try:
        with (
            running_service(url, service, grpc=grpc) as (address, _),
            progress_display() as on_progress,
        ):
            target = Target(address, path=path, field=field)
            command = command_line()
            report = run_benchmark(
                target, options, on_progress, command=command, images=images, credentials=shown
            )
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    verdict = None if wanted is None else judge_contract(wanted, report=report)
    report = msgspec.structs.replace(report, verdict=verdict)
    html, data = write_report(report, output / "report.html")
    if json:
        print_json(report)
    else:
        out.print(render_terminal(report))
    err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
    if verdict is not None:
        show_verdict(verdict, json=json)
    leave(verdict)
