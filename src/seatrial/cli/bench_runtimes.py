"""``seatrial bench`` with several runtimes or protocols: one deployment, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from seatrial.cli.console import command_line, err, out, print_json, progress_display, store
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.cli.running import started

if TYPE_CHECKING:
    from seatrial.bench.options import BenchOptions
    from seatrial.deployment import RuntimeName
    from seatrial.load.images import ImageSet
    from seatrial.load.samples import ProtocolName

ROUNDS = 3
ALL_KNOW: tuple[ProtocolName, ...] = ("v2", "grpc")  # protocols that every runtime speaks


def bench_runtimes(
    service: DeploymentOptions,
    triton: TritonOptions,
    on: Sequence[RuntimeName],
    protocols: Sequence[ProtocolName],
    options: BenchOptions,
    images: ImageSet,
    rounds: int | None,
    *,
    output: Path,
    json: bool,
) -> None:
    """Measure a deployment on each runtime by each protocol; print and write the report.

    Args:
        service: The deployment.
        triton: The server that is started for triton.
        on: Runtimes; none: the deployment's.
        protocols: Protocols; none: see `seatrial.cli.bench.bench`.
        options: What is measured each time.
        images: The images that the options name.
        rounds: Number of rounds; None: `ROUNDS`.
        output: Folder for the report.
        json: Print it as JSON.

    Raises:
        SeatrialError: An option is wrong, or nothing could be measured.
    """
    from seatrial.bench.rounds import measure_side_by_side
    from seatrial.bench.side_by_side_page import write_side_by_side
    from seatrial.bench.side_by_side_terminal import render_side_by_side
    from seatrial.models.resolve import resolve

    deployment = service.resolve(**triton.fields)
    artifact = resolve(store(), deployment.model)
    runtimes = tuple(dict.fromkeys(on or (deployment.server.runtime,)))
    alone: tuple[ProtocolName, ...] = ("v2",) if runtimes == ("triton",) else ("http",)
    wanted = tuple(dict.fromkeys(protocols)) or (ALL_KNOW if len(runtimes) > 1 else alone)
    try:
        with progress_display() as on_progress:

            @contextlib.contextmanager
            def start(
                runtime: str, asked: Collection[ProtocolName]
            ) -> Iterator[Mapping[ProtocolName, str]]:
                port = 0 if "grpc" in asked else None
                server = msgspec.structs.replace(deployment.server, runtime=runtime, grpc_port=port)
                here = msgspec.structs.replace(deployment, server=server)
                on_progress(f"the runtime {runtime}")
                with started(here, artifact, on_progress) as running:
                    yield {"http": running.url, "v2": running.url, "grpc": running.grpc_url}

            report = measure_side_by_side(
                runtimes,
                wanted,
                start,
                options,
                rounds=ROUNDS if rounds is None else rounds,
                images=images,
                deployment=msgspec.to_builtins(deployment),
                on_progress=on_progress,
                command=command_line(),
            )
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    html, data = write_side_by_side(report, output / "report.html")
    if json:
        print_json(report)
    else:
        out.print(render_side_by_side(report))
    for setup in report.setups:
        if setup.missing:
            err.print(f"{setup.name}: not measured: {setup.missing}", highlight=False)
    err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
