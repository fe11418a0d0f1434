"""The history of a service's figures: a line for each benchmark, and where a series changed.

Figures of two machines, models or sets of images, or that were measured in two ways, are never one
series.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from seatrial.bench.change_points import SHORTEST, SIGNIFICANCE, ChangePoint, change_points
from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import IN_PROCESS
from seatrial.config import UNDECODABLE, readable
from seatrial.errors import InvalidConfig
from seatrial.system.files import beside, bounded_bytes, writing

SCHEMA = "seatrial.history/1"
MOST_BYTES = 2**28
LAYOUT = ("workers", "instances", "threads")
HIGHER_IS_BETTER, SHARE = "_per_s", "_share"  # ends of the name of a figure


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a history: the figures of one benchmark.

    Attributes:
        schema: Name and version of this format.
        at: Begin of the benchmark, UTC, ISO 8601.
        commit: Commit of the working folder; empty outside of a git repository.
        changed: Whether files of the working folder differed from that commit.
        machine: Machine that the service ran on; its address where it ran on another one.
        model: Name of the model, by the service's own answer.
        digest: Digest of the artifact, by the same.
        images: Digest of the images.
        setup: How it was measured, in words: engine, precision, device, workers x instances x
            threads; protocol and clients where it was not by one over HTTP.
        figures: Name of a figure, ``single-stream, 1 session: p50_ms`` -> value.
        command: Command that measured.
    """

    schema: str = SCHEMA
    at: str
    commit: str = ""
    changed: bool = False
    machine: str
    model: str = ""
    digest: str = ""
    images: str = ""
    setup: str = ""
    figures: dict[str, float]
    command: str = ""


class FigureSeries(msgspec.Struct, frozen=True):
    """One figure of one machine, model and set of images over time.

    Attributes:
        figure: Name of the figure.
        entries: The lines that have it, by time.
        changes: Where it changed; `index` is that of an entry.
    """

    machine: str
    model: str
    setup: str
    figure: str
    entries: tuple[HistoryEntry, ...]
    changes: tuple[ChangePoint, ...]

    @property
    def values(self) -> list[float]:
        """The figure of each entry."""
        return [entry.figures[self.figure] for entry in self.entries]

    def worse(self, change: ChangePoint) -> bool:
        """Whether a change is one for the worse."""
        return (change.ratio < 1) == self.figure.endswith(HIGHER_IS_BETTER)


class HistoryChanges(msgspec.Struct, frozen=True, kw_only=True):
    """All series of a history.

    Attributes:
        schema: Name and version of the document: `seatrial.changes/1`.
        series: The series, each with its changes.
    """

    schema: str = "seatrial.changes/1"
    series: tuple[FigureSeries, ...]


def append_history(path: Path, report: BenchReport, folder: Path | None = None) -> HistoryEntry:
    """Append the figures of a benchmark to a history, as one line of JSON.

    Args:
        path: The file; it is made where there is none.
        report: The benchmark.
        folder: Folder whose commit is noted; None: the working folder.

    Raises:
        NotWritable: The file cannot be written.
    """
    entry = history_entry(report, folder or Path.cwd())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        line = msgspec.json.encode(entry) + b"\n"
        place = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(place, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and not _ends_with_a_line(file):
                line = b"\n" + line  # a line that was cut spoils no other one
            # At once: two benchmarks that end together leave two whole lines.
            if file.write(line) < len(line):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return entry


def _ends_with_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def history_entry(report: BenchReport, folder: Path) -> HistoryEntry:
    """The line of a benchmark."""
    commit, changed = commit_of(folder)
    model, machine = report.model or {}, report.environment
    name = (
        f"{machine.cpu.model}, {machine.cpu.cores} usable of {machine.cpu.cores_online} cores, "
        f"{machine.memory_bytes / 2**30:.0f} GiB"
    )
    return HistoryEntry(
        at=report.created_at,
        commit=commit,
        changed=changed,
        machine=name if machine.local else report.target.url,
        model=str(model.get("name", "")),
        digest=str(model.get("digest", "")),
        images=report.images.digest,
        setup=_setup(report),
        figures=dict(_figures(report)),
        command=report.command,
    )


def commit_of(folder: Path) -> tuple[str, bool]:
    """The commit of a folder, and whether its files differ; empty outside of a git repository."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD").strip()
    return commit, bool(commit and _git(folder, "status", "--porcelain", "--untracked-files=no"))


def read_history(path: Path) -> list[HistoryEntry]:
    """Read a history, by time.

    Raises:
        InvalidConfig: It cannot be read, or a line is none of a history.
    """
    hint = "give a file that seatrial bench --history wrote"
    try:
        lines = bounded_bytes(path, MOST_BYTES).splitlines()
    except OSError as error:
        raise InvalidConfig(
            f"{path} cannot be read: {error.strerror}", hint=beside(path, otherwise=hint)
        ) from error
    entries = [
        _read_line(line, f"{path}, line {number}", hint)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return sorted(entries, key=lambda entry: datetime.fromisoformat(entry.at))


def series_of(entries: Iterable[HistoryEntry]) -> list[FigureSeries]:
    """The series of a history, with the points at which each changed."""
    found = defaultdict[tuple[str, str, str, str, str], list[HistoryEntry]](list)
    for entry in entries:
        for figure, value in entry.figures.items():
            if value >= 0:
                key = entry.machine, entry.model, entry.images, entry.setup, figure
                found[key].append(entry)
    return [
        FigureSeries(machine, model, setup, figure, tuple(rows), _changes(rows, figure))
        for (machine, model, _, setup, figure), rows in found.items()
    ]


def _setup(report: BenchReport) -> str:
    model, clients = report.model or {}, report.options.client_processes
    layout = model.get("layout")
    counts = [layout.get(key) for key in LAYOUT] if isinstance(layout, dict) else []
    protocol = report.target.protocol or "http"
    return ", ".join([
        *(str(model[key]) for key in ("engine", "precision", "device") if model.get(key)),
        *([" x ".join(map(str, counts)) + " threads"] if counts and None not in counts else []),
        *(["in process"] if report.target == IN_PROCESS else []),
        *([protocol] if protocol != "http" else []),
        *([f"{clients} client processes"] if clients > 1 else []),
    ])  # fmt: skip


def fewest_entries() -> int:
    """Fewest entries of a series in which a change can be seen.

    Of shuffles of fewer, too many have the smaller values on one side. Half of what is allowed, as
    the share is counted in a sample of the shuffles.
    """
    counts = itertools.count(2 * SHORTEST)
    return next(n for n in counts if 2 / math.comb(n, n // 2) <= SIGNIFICANCE / 2)


def _changes(rows: Sequence[HistoryEntry], figure: str) -> tuple[ChangePoint, ...]:
    return tuple(change_points([row.figures[figure] for row in rows]))


def _figures(report: BenchReport) -> Iterator[tuple[str, float]]:
    limit_ms = report.options.latency_limit_ms
    within = "" if limit_ms is None else f" within {limit_ms:g} ms"
    for run in report.runs:
        if run.search is not None:  # its trials are at rates that no other search has
            if run.search.ended == "found" or run.search.low_hz:
                held = f"{run.percentile} within {run.limit_ms:g} ms"
                yield f"{run.scenario}, {held}: rate{HIGHER_IS_BETTER}", run.search.rate_hz
            continue
        for point in run.points:
            if point.void:
                continue
            load = f"{run.scenario}, {point.load}"
            for name, percentile in point.latency.percentiles.items():
                if percentile.value_ms is not None:
                    yield f"{load}: {name}_ms", percentile.value_ms
            yield f"{load}{within}: goodput{HIGHER_IS_BETTER}", point.goodput_per_s
            # Where requests fail, a percentile may have no value: its series just ends.
            count = point.latency.count + point.latency.failed
            yield f"{load}: failed{SHARE}", point.latency.failed / max(1, count)


def _read_line(line: bytes, origin: str, hint: str) -> HistoryEntry:
    try:
        entry = msgspec.json.decode(line, type=HistoryEntry)
    except UNDECODABLE as error:
        wrong = readable(error, HistoryEntry)
        raise InvalidConfig(f"{origin} is none of a history: {wrong}", hint=hint) from error
    if entry.schema != SCHEMA:
        raise InvalidConfig(f"{origin} has the schema {entry.schema!r}, not {SCHEMA!r}", hint=hint)
    try:
        at = datetime.fromisoformat(entry.at)
    except ValueError as error:
        raise InvalidConfig(f"{origin} has the time {entry.at!r}", hint=hint) from error
    utc = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    return msgspec.structs.replace(entry, at=utc.isoformat(timespec="seconds"))


def _git(folder: Path, *words: str) -> str:
    """The output of git; empty where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git is there
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
