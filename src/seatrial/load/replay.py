"""Arrivals of a log: requests come as they came once, with the images that they had."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidDataset
from seatrial.load.arrivals import MOST_REQUESTS, Times
from seatrial.load.images import EncodedImage
from seatrial.load.schedule import image_order
from seatrial.system.files import beside

TIMES, IMAGES, SIZES = ("timestamp", "time", "ts"), ("image", "name", "path"), ("size", "bytes")
# Endings of the columns of times -> seconds in their unit.
UNITS_S = {"": 1.0, "_s": 1.0, "_ms": 1e-3, "_us": 1e-6, "_ns": 1e-9}
TIME_COLUMNS = {name + unit: scale for name in TIMES for unit, scale in UNITS_S.items()}
# Least number of a column without a unit -> its unit: seconds since 1970 reach the first in the
# year 5138, and milliseconds were there in 1973.
LARGE_S = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
CALENDAR = "%Y%m%d%H%M%S"  # of 14 digits: milliseconds have as many in the year 2286
LONGEST_GAP_DAYS = 30
# Time of a window after the last request of a log.
SHORTEST_S, LAST_S = 1e-6, 1.0
SEPARATORS = ",;\t"
HINT = (
    "a log is CSV with a header, or JSON Lines: `timestamp` (seconds, or ISO 8601; `timestamp_ms` "
    "is in milliseconds), and where you like `image` (a file of the folder of images) or `size` "
    "(bytes)"
)


class RequestLog(msgspec.Struct, frozen=True):
    """A log of requests.

    Attributes:
        path: File.
        due_s: (N,) float64, ascending: time of each request, seconds after the first.
        images: Name of the image of each; empty where the log has none.
        sizes: Size of each body in bytes, 0 where it is not known.
    """

    path: str
    due_s: NDArray[np.float64]
    images: tuple[str, ...]
    sizes: tuple[int, ...]


class Logged(msgspec.Struct, frozen=True):
    """The arrivals of a log as a law; see `seatrial.load.arrivals.OpenLoop`.

    Attributes:
        log: The log.
        speed: Factor by which time passes faster than in the log.
        images: Index of the image of each request; None: any image.
    """

    log: RequestLog
    speed: float = 1.0
    images: tuple[int, ...] | None = None

    @property
    def length_s(self) -> float:
        """Time from the first request to the last, seconds."""
        return float(self.log.due_s[-1]) / self.speed

    @property
    def window_s(self) -> float:
        """Time in which all requests are due, the last one, too, seconds.

        It ends a mean gap after that one, as if a next one had followed: so a log of 3 requests
        and 2 gaps has the rate of its gaps. Nobody waits for longer than `LAST_S`.
        """
        gaps = len(self.log.due_s) - 1
        mean_s = self.length_s / gaps if gaps else LAST_S
        return self.length_s + (max(SHORTEST_S, min(mean_s, LAST_S)) if mean_s else LAST_S)

    def due_s(self, seed: int, until_s: float) -> Times:
        """The times of the log, the same for every seed."""
        due_s: Times = self.log.due_s / self.speed
        return due_s[due_s < until_s]

    def words(self) -> str:
        """The law in a few words."""
        faster = "" if self.speed == 1 else f", {self.speed:.4g} times as fast"
        return f"replay of {Path(self.log.path).name}{faster}"


def read_log(path: Path) -> RequestLog:
    """Read a log; rows may be in any order.

    Raises:
        InvalidDataset: The file cannot be read, has no requests, or a row is wrong.
    """
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in _rows(file, path):
                seconds = _time_s(row, path, number)
                rows.append((seconds, _text(row, IMAGES), _size(row, path, number), number))
                if len(rows) > MOST_REQUESTS:
                    raise InvalidDataset(f"{path} has more than {MOST_REQUESTS:,} requests")
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path} is not UTF-8 text: {error}", hint=HINT) from error
    except OSError as error:
        raise InvalidDataset(
            f"{path} cannot be read: {error.strerror}", hint=beside(path)
        ) from error
    except csv.Error as error:
        raise InvalidDataset(f"{path} cannot be read: {error}", hint=HINT) from error
    if not rows:
        raise InvalidDataset(f"{path} has no request", hint=HINT)
    rows.sort(key=lambda row: row[0])
    _check_gaps(rows, path)
    first = rows[0][0]
    names = tuple(row[1] for row in rows)
    return RequestLog(
        path=str(path),
        due_s=np.array([row[0] - first for row in rows]),
        images=names if any(names) else (),
        sizes=tuple(row[2] for row in rows),
    )


def logged(
    log: RequestLog, images: Sequence[EncodedImage], *, speed: float = 1.0, seed: int = 0
) -> Logged:
    """The law of a log: each request sends the image that it names, or the nearest in size.

    Args:
        log: The log.
        images: The images that are sent.
        speed: Factor by which time passes faster than in the log.
        seed: Seed of the images of requests that say nothing of theirs.

    Raises:
        InvalidDataset: The log names an image that is not there.
    """
    return Logged(log, speed, tuple(_chosen(log, images, seed)))


def _chosen(log: RequestLog, images: Sequence[EncodedImage], seed: int) -> Iterator[int]:
    by_name = {image.name: index for index, image in enumerate(images)}
    by_size = sorted(range(len(images)), key=lambda index: len(images[index].data))
    sizes = np.array([len(images[index].data) for index in by_size])
    any_image = image_order(len(images), seed, 0)
    for number, size in enumerate(log.sizes):
        name = log.images[number] if log.images else ""
        if name:
            if name not in by_name:
                raise InvalidDataset(
                    f"{log.path} names the image {name!r}, which is not among the "
                    f"{len(images)} that were read",
                    hint="names are paths below the folder of images; raise --image-limit if it "
                    "has more",
                )
            yield by_name[name]
        elif size:
            after = int(np.searchsorted(sizes, size))
            near = [n for n in (after - 1, after) if 0 <= n < len(sizes)]
            yield by_size[min(near, key=lambda n: abs(int(sizes[n]) - size))]
        else:
            yield next(any_image)


def _rows(file: TextIO, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of the line and cells of each row, by the column's name in small letters."""
    begin, skipped = "", 0
    for line in file:
        begin = line
        if line.strip() and not line.startswith("#"):
            break
        begin, skipped = "", skipped + 1
    lines = itertools.chain([begin], file) if begin else iter(())
    json_lines = begin.lstrip().startswith("{") or path.suffix.lower() in (".jsonl", ".ndjson")
    return (_json_rows if json_lines else _csv_rows)(lines, path, skipped)


def _check_gaps(rows: Sequence[tuple[float, str, int, int]], path: Path) -> None:
    """Refuse a log with a time that was cut or is 0: between it and the others lie years."""
    for before, after in itertools.pairwise(rows):
        days = (after[0] - before[0]) / 86_400
        if days > LONGEST_GAP_DAYS:
            raise InvalidDataset(
                f"{path} has no request for {days:,.0f} days between line {before[3]} and line "
                f"{after[3]}",
                hint="one of the two has a wrong time; a log with such a pause is cut into two",
            )


def _csv_rows(
    lines: Iterator[str], path: Path, skipped: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = next(lines, "")
    # The one by which the header has a time; of none the comma.
    apart = next(
        (mark for mark in SEPARATORS if TIME_COLUMNS.keys() & {*_heads(header, mark)}), ","
    )
    heads = _heads(header, apart)
    if header and not TIME_COLUMNS.keys() & {*heads}:
        named = ", ".join(heads)[:80]
        raise InvalidDataset(
            f"line {skipped + 1} of {path} names no column timestamp: {named}", hint=HINT
        )
    table = csv.reader(lines, delimiter=apart, skipinitialspace=True, strict=True)
    for cells in table:
        number = table.line_num + skipped + 1
        if len(cells) > len(heads):
            raise InvalidDataset(
                f"line {number} of {path} has {len(cells)} cells, and the header {len(heads)}",
                hint="a cell with a comma in it stands in quotes; decimals have a point",
            )
        if cells:
            yield number, dict(zip(heads, cells, strict=False))


def _heads(header: str, mark: str) -> list[str]:
    try:
        row = next(csv.reader([header], delimiter=mark, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return []
    return [name.strip().lower() for name in row]


def _json_rows(
    lines: Iterator[str], path: Path, skipped: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=skipped + 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also too many digits
            raise InvalidDataset(
                f"line {number} of {path} is not JSON: {line.strip()[:80]}", hint=HINT
            ) from error
        if not isinstance(row, dict):
            raise InvalidDataset(
                f"line {number} of {path} must be an object: {line.strip()[:80]}", hint=HINT
            )
        yield number, {key.lower(): value for key, value in row.items()}


def _time_s(row: Mapping[str, Any], path: Path, number: int) -> float:
    """Time of a row, seconds since any fixed time."""
    column = next((key for key in TIME_COLUMNS if row.get(key) not in (None, "")), None)
    if column is None:
        raise InvalidDataset(f"line {number} of {path} has no timestamp", hint=HINT)
    told = row[column]
    try:
        seconds = _seconds(told, TIME_COLUMNS[column], has_unit=column not in TIMES)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds) or isinstance(told, bool):
        raise InvalidDataset(
            f"line {number} of {path} has the {column} {str(told)[:80]!r}", hint=HINT
        )
    return seconds


def _seconds(told: Any, unit_s: float, *, has_unit: bool) -> float:
    """Seconds of a number or of a date; a date without a zone is UTC, on every machine alike.

    Raises:
        TypeError: It is neither.
        ValueError: It is neither.
        OverflowError: It is too large.
    """
    words = str(told).strip()
    if "_" in words:  # a number to Python alone
        raise ValueError(words)
    if words.isdecimal() and len(words) == 14 and not has_unit:
        return datetime.strptime(words, CALENDAR).replace(tzinfo=UTC).timestamp()
    try:
        value = float(told)
    except ValueError:
        date = datetime.fromisoformat(words)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if not has_unit:
        unit_s = next((scale for least, scale in LARGE_S if abs(value) >= least), 1.0)
    return value * unit_s


def _text(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((str(row[key]) for key in keys if row.get(key)), "")


def _size(row: Mapping[str, Any], path: Path, number: int) -> int:
    told = _text(row, SIZES)
    try:
        size = int(float(told)) if told.strip() else 0
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise InvalidDataset(f"line {number} of {path} has the size {told!r}", hint=HINT)
    return size
