"""``seatrial bench`` with several runtimes or protocols: one deployment, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial.cli.console import command_line, err, out, print_json, progress_display
from seatrial.cli.deployment import DeploymentOptions, TritonOptions

if TYPE_CHECKING:
    from seatrial.bench.options import BenchOptions
    from seatrial.deployment import RuntimeName
    from seatrial.load.images import ImageSet
    from seatrial.load.samples import ProtocolName


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
        rounds: Number of rounds; None: see `seatrial.api.side_by_side.bench_runtimes`.
        output: Folder for the report.
        json: Print it as JSON.

    Raises:
        SeatrialError: An option is wrong, or nothing could be measured.
    """
    from seatrial.api import side_by_side as library
    from seatrial.bench.side_by_side_page import write_side_by_side
    from seatrial.bench.side_by_side_terminal import render_side_by_side

    deployment = service.resolve(**triton.fields)
    triton.check(on or [deployment.server.runtime])
    artifact = service.open(deployment)
    try:
        with progress_display() as on_progress:
            report = library.bench_runtimes(
                deployment, artifact, on, protocols, options, images, rounds, on_progress,
                command_line(), service.deployment if service.model is None else None,
            )  # fmt: skip
    except KeyboardInterrupt:
        err.print("no report was written")
        raise
    # Printed first: a disk that has filled up meanwhile loses no measurement.
    if json:
        print_json(report)
    else:
        out.print(render_side_by_side(report))
    for setup in report.setups:
        if setup.missing:
            err.print(f"{setup.name}: not measured: {setup.missing}", highlight=False)
    html, data = write_side_by_side(report, output / "report.html")
    err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
