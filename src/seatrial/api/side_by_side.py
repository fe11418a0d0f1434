"""One deployment on several runtimes, measured by several protocols."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from seatrial.api.services import started
from seatrial.progress import Progress

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.bench.options import BenchOptions
    from seatrial.bench.side_by_side import SideBySide
    from seatrial.deployment import Deployment, RuntimeName
    from seatrial.load.images import ImageSet
    from seatrial.load.samples import ProtocolName

ROUNDS = 3
ALL_KNOW: tuple[ProtocolName, ...] = ("v2", "grpc")  # protocols that every runtime speaks


def bench_runtimes(
    deployment: Deployment,
    artifact: Artifact,
    on: Sequence[RuntimeName],
    protocols: Sequence[ProtocolName],
    options: BenchOptions,
    images: ImageSet,
    rounds: int | None,
    on_progress: Progress,
    command: str = "",
    file: Path | None = None,
) -> SideBySide:
    """Measure a deployment on each runtime by each protocol.

    Args:
        deployment: What is started.
        artifact: Its model.
        on: Runtimes; none: the deployment's.
        protocols: Protocols; none: ``v2`` and ``grpc`` with several runtimes, otherwise ``http``,
            or ``v2`` of a Triton.
        options: What is measured each time.
        images: The images that the options name.
        rounds: Number of rounds; None: `ROUNDS`.
        on_progress: Called with the progress.
        command: The command that a reader repeats this with.
        file: File that names the model, if one does.

    Raises:
        SeatrialError: An option is wrong, or nothing could be measured.
    """
    from seatrial.bench.rounds import measure_side_by_side

    told = msgspec.to_builtins(deployment)
    if file is not None:  # the report does not show the file's folder
        told["model"] = deployment.model.removeprefix(f"{file.absolute().parent}/")
    runtimes = tuple(dict.fromkeys(on or (deployment.server.runtime,)))
    alone: tuple[ProtocolName, ...] = ("v2",) if runtimes == ("triton",) else ("http",)
    wanted = tuple(dict.fromkeys(protocols)) or (ALL_KNOW if len(runtimes) > 1 else alone)

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

    return measure_side_by_side(
        runtimes,
        wanted,
        start,
        options,
        rounds=ROUNDS if rounds is None else rounds,
        images=images,
        deployment=told,
        on_progress=on_progress,
        command=command,
    )
