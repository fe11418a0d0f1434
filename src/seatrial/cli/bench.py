"""``seatrial bench``: measure a service, explain the result, write the report."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from seatrial.cli.console import err, home, out, print_json, progress, store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.verdict import leave, show_verdict
from seatrial.contract import Contract
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.bench.run import OnProgress


SCRATCH = ".bench-"


def bench(
    *,
    images: Path,
    url: str | None = None,
    options: DeploymentOptions | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
    scenario: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    sessions: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    point_s: float | None = None,
    single_stream_s: float | None = None,
    image_limit: int | None = None,
    timeout_s: float | None = None,
    latency_limit_ms: float | None = None,
    seed: int | None = None,
    path: str = "/detect",
    field: str | None = None,
    contract: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a running service (--url), or one that is started for it (--model).

    Two scenarios, both closed-loop. single-stream: one request at a time. scaling: 1, 2, 4, 8
    sessions at a time. Writes report.html and report.json.

    Args:
        images: Folder of pictures; COCO's val2017 as it comes, or your own.
        url: Address of a running service.
        options: What to start, where no --url is given.
        output: Folder for report.html and report.json.
        scenario: single-stream, scaling [default: both].
        sessions: Concurrent sessions of the scaling scenario [default: 1 2 4 8].
        point_s: Seconds measured at each number of sessions [default: 7].
        single_stream_s: Longest time of the single-stream scenario, seconds [default: 30].
        image_limit: Most pictures used of the folder; drawn with the seed [default: 256].
        timeout_s: A request that takes longer failed, seconds [default: 30].
        latency_limit_ms: Slower answers do not count as goodput [default: no limit].
        seed: Of the draw and the order of the pictures [default: 0].
        path: Where a foreign service takes pictures.
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
    from seatrial.bench.scenarios import BenchOptions, plan
    from seatrial.bench.terminal import render_terminal
    from seatrial.load.images import load_images
    from seatrial.load.target import Target
    from seatrial.trial.verdict import judge_service

    wanted = None if contract is None else Contract.read(contract)
    given: dict[str, Any] = {
        "scenarios": tuple(scenario) if scenario else None,
        "sessions": tuple(sessions) if sessions else None,
        "point_s": point_s,
        "single_stream_s": single_stream_s,
        "image_limit": image_limit,
        "timeout_s": timeout_s,
        "latency_limit_ms": latency_limit_ms,
        "seed": seed,
    }
    chosen = BenchOptions(
        str(images), **{name: value for name, value in given.items() if value is not None}
    )
    plan(chosen)  # what is wrong is said before a service is started, not after a minute of load
    _check_writable(output)
    options = options or DeploymentOptions()
    if url is not None and options != DeploymentOptions():
        raise InvalidConfig(
            "--url measures a running service; it cannot be given another model or layout",
            hint="leave --url out to start a service with these options",
        )
    pictures = load_images(Path(chosen.images), limit=chosen.image_limit, seed=chosen.seed)
    try:
        with _service(url, options) as address, _bar() as on_progress:
            target = Target(address, path=path, field=field)
            report = run_benchmark(
                target, chosen, on_progress, command=_command(), pictures=pictures
            )
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    html, data = write_report(report, output / "report.html")
    verdict = None if wanted is None else judge_service(wanted, report)
    if json:
        print_json(
            report if verdict is None else {**msgspec.to_builtins(report), "verdict": verdict}
        )
    else:
        out.print(render_terminal(report))
    err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
    if verdict is not None:
        show_verdict(verdict, json=json)
    leave(verdict)


@contextlib.contextmanager
def _service(url: str | None, options: DeploymentOptions) -> Iterator[str]:
    """The address of a running service: the one given, or one for as long as this lasts."""
    if url is not None:
        yield url
        return
    from seatrial.models.resolve import resolve
    from seatrial.serve import process
    from seatrial.serve.startup import check
    from seatrial.system.extras import require

    require("bentoml", extra="serve", purpose="serving")
    deployment = options.resolve()
    server = msgspec.structs.replace(
        deployment.server, port=process.free_port(deployment.server.host)
    )
    deployment = msgspec.structs.replace(deployment, server=server)
    artifact = resolve(store(), deployment.model)
    engine = check(artifact, deployment)
    (home() / "services").mkdir(parents=True, exist_ok=True)
    _sweep(home() / "services")
    prefix = f"{SCRATCH}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=home() / "services") as scratch:
        folder = process.write_service(Path(scratch) / "service", artifact, deployment)
        progress(f"starting {artifact.manifest.name} on {engine}")
        log = Path(scratch) / "service.log"
        environment = process.environment(os.environ)
        with process.ServiceProcess(folder, deployment, environment, log) as service:
            yield service.url
            progress("stopping the service")


def _sweep(folder: Path) -> None:
    """Remove what benchmarks left behind that were killed."""
    for left in folder.glob(f"{SCRATCH}*"):
        pid = left.name.removeprefix(SCRATCH).partition("-")[0]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _bar() -> Iterator[OnProgress]:
    """A progress bar that is drawn when there is news, not by a thread: the cores are measured."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from seatrial.bench.run import Progress as Step

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("looking at the service", total=1.0)

        def show(step: Step) -> None:
            failed = f", {step.failed} failed" if step.failed else ""
            text = (
                f"{step.scenario} {step.step}/{step.steps}, {step.sessions} session(s): "
                f"{step.finished} done{failed}"
            )
            bar.update(task, completed=step.fraction, description=text, refresh=True)

        yield show


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidConfig(f"{folder} cannot be written to: {error.strerror}") from error


def _command() -> str:
    return shlex.join(["seatrial", *sys.argv[1:]])
