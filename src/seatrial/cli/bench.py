"""``seatrial bench``: measure a service, explain the result, write the report."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter, default_name_transform

from seatrial.bench.options import BenchOptions
from seatrial.cli.console import err, home, out, print_json, progress, progress_display, store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.verdict import leave, show_verdict, verdict_json
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
    service: DeploymentOptions | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
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
        url: Address of a running service.
        service: What to start, where no --url is given.
        output: Folder for report.html and report.json.
        path: Path at which a foreign service takes images.
        field: Multipart field of a foreign service [default: the raw body].
        contract: TOML file; its latency and load clauses are judged. Exit code 8: they do not
            hold; 9: it cannot be decided.
        json: Print the report as JSON too.
    """
    from seatrial.system.extras import require

    for module in ("aiohttp", "jinja2", "psutil", "uvloop"):
        require(module, extra="bench", purpose="measuring a service")
    from seatrial.bench.report import write_report
    from seatrial.bench.run import run_benchmark
    from seatrial.bench.scenarios import plan
    from seatrial.bench.terminal import render_terminal
    from seatrial.load.images import load_images
    from seatrial.load.target import Target
    from seatrial.system.files import check_writable
    from seatrial.trial.verdict import judge_service

    # What is wrong is reported before a service is started, not after a minute of load.
    plan(options)
    wanted = None if contract is None else Contract.read(contract, judged=["latency", "load"])
    check_writable(output)
    service = service or DeploymentOptions()
    if url is not None and service != DeploymentOptions():
        raise InvalidConfig(
            "--url measures a running service; it cannot be given another model or layout",
            hint="leave --url out to start a service with these options",
        )
    images = load_images(Path(options.images), limit=options.image_limit, seed=options.seed)
    try:
        with _service(url, service) as address, progress_display() as on_progress:
            target = Target(address, path=path, field=field)
            command = shlex.join(["seatrial", *sys.argv[1:]])
            report = run_benchmark(target, options, on_progress, command=command, images=images)
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    html, data = write_report(report, output / "report.html")
    verdict = None if wanted is None else judge_service(wanted, report)
    if not json:
        out.print(render_terminal(report))
    elif verdict is None:
        print_json(report)
    else:
        print_json({**msgspec.to_builtins(report), "verdict": verdict_json(verdict)})
    err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
    if verdict is not None:
        show_verdict(verdict, json=json)
    leave(verdict)


@contextlib.contextmanager
def _service(url: str | None, options: DeploymentOptions) -> Iterator[str]:
    """The address of a running service: the one given, or one for as long as the block lasts."""
    if url is not None:
        yield url
        return
    from seatrial.models.resolve import resolve
    from seatrial.serve.process import environment, scratch_service

    deployment = options.resolve()
    artifact = resolve(store(), deployment.model)
    folder = home() / "services"
    with scratch_service(
        deployment, artifact, folder, environment(os.environ), progress
    ) as service:
        yield service.url
