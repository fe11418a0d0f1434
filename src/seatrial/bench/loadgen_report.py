"""The report of a run of LoadGen: its figures, ours of the same run, and a table of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from seatrial.bench.environment import Environment
from seatrial.bench.loadgen_log import LoadgenFigures
from seatrial.bench.loadgen_options import LoadgenOptions, LoadgenScenario
from seatrial.bench.loadgen_system import ClientFigures
from seatrial.bench.terminal import plain_table
from seatrial.config import encode_json, read_report
from seatrial.load.images import ImagesSummary
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Target
from seatrial.load.window import Loop
from seatrial.report.numbers import MISSING, counted, optional, significant
from seatrial.system.files import write_atomically, writing

SCHEMA = "seatrial.loadgen/1"
REPORT = "loadgen.json"


class LoadgenReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run of LoadGen against one service.

    Attributes:
        schema: Name and version of the document: `seatrial.loadgen/1`.
        created_at: Begin of the run, UTC, ISO 8601.
        command: Command that made the report.
        elapsed_s: Time from the first question to the last answer.
        scenario: LoadGen's scenario.
        loop: Whether the answers paced the queries (closed) or a schedule did (open).
        target: The service.
        options: Options of the run.
        model: Answer of the service about itself; None where it gives none.
        images: Images that were sent.
        environment: The machine at the begin.
        loadgen: LoadGen's account.
        client: Ours of the same queries.
    """

    schema: str
    created_at: str
    command: str
    elapsed_s: float
    scenario: LoadgenScenario
    loop: Loop
    target: Target
    options: LoadgenOptions
    model: dict[str, Any] | None
    images: ImagesSummary
    environment: Environment
    loadgen: LoadgenFigures
    client: ClientFigures

    @property
    def valid(self) -> bool:
        """Whether LoadGen calls the run valid and no request failed, of which it knows nothing."""
        return self.loadgen.validity == "VALID" and not self.client.failed

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons for which the run is not valid."""
        failed = self.client.failed
        kinds = ", ".join(f"{kind}: {count}" for kind, count in self.client.errors.items())
        ours = (
            f"{counted(failed, 'image')} of {self.client.images} had no good answer ({kinds}); "
            f"LoadGen was told of them {self.options.timeout_s:g} s after their issue",
        )
        return (*self.loadgen.reasons, *(ours if failed else ()))


def write_loadgen_report(report: LoadgenReport, folder: Path) -> Path:
    """Write ``loadgen.json`` into a folder.

    Raises:
        NotWritable: It cannot be written.
    """
    with writing(folder):
        write_atomically(folder / REPORT, encode_json(report))
    return folder / REPORT


def read_loadgen_report(file: Path) -> LoadgenReport:
    """Read a ``loadgen.json``.

    Raises:
        InvalidConfig: It is none.
    """
    return read_report(
        file,
        LoadgenReport,
        what="report of LoadGen",
        hint="seatrial loadgen writes one",
        schema=SCHEMA,
    )


def render_loadgen(report: LoadgenReport) -> RenderableType:
    """The verdict, the latencies by both clocks, and the rates."""
    figures, client = report.loadgen, report.client
    word = "VALID" if report.valid else "INVALID"
    title = f"LoadGen {report.scenario} ({report.loop} loop): {word}"
    head = Text(title, style="bold green" if report.valid else "bold red")
    judged = report.options.judged(report.scenario)
    names = [*PERCENTILES, *([] if judged in PERCENTILES else [judged])]
    marked = [f"{name} *" if name == judged else name for name in names]
    table = plain_table("", "queries", "rate/s", *marked, "mean ms")
    table.add_row(
        "LoadGen",
        str(figures.queries),
        optional(figures.rate_per_s, significant),
        *(optional(figures.percentiles_ms.get(name), significant) for name in names),
        optional(figures.mean_ms, significant),
    )
    for name, found in (("client", client.latency), ("send to answer", client.service)):
        whole = name == "client"
        table.add_row(
            name,
            str(client.queries) if whole else MISSING,
            significant(client.good_per_s) if whole else MISSING,
            *(
                optional(found.percentiles[name].value_ms, significant)
                if name in found.percentiles
                else MISSING
                for name in names
            ),
            optional(found.mean_ms, significant),
        )
    table.caption = Text(
        "latency in ms; *: judged by LoadGen, which gives percentiles of any number of queries, "
        f"where ours are {MISSING} of too few. LoadGen counts from the issue of a query, in server "
        "from its scheduled "
        "arrival; client: from LoadGen's call to the last byte"
    )
    return Group(head, Text(), table)
