"""Arrivals of a log: requests come as they came once, with the images that they had."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidDataset
from seatrial.load.arrivals import MOST_REQUESTS, Times
from seatrial.load.images import EncodedImage
from seatrial.load.schedule import image_order

TIMES, IMAGES, SIZES = ("timestamp", "time", "ts"), ("image", "name", "path"), ("size", "bytes")
HINT = (
    "a log is CSV with a header, or JSON Lines: `timestamp` (seconds, or ISO 8601), and where you "
    "like `image` (a file of the folder of images) or `size` (bytes)"
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
            found = _json_rows(file) if path.suffix in (".jsonl", ".ndjson") else _csv_rows(file)
            for number, row in found:
                rows.append(
                    (_time_s(row, path, number), _text(row, IMAGES), _size(row, path, number))
                )
                if len(rows) > MOST_REQUESTS:
                    raise InvalidDataset(f"{path} has more than {MOST_REQUESTS:,} requests")
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise InvalidDataset(f"{path} cannot be read: {error}", hint=HINT) from error
    if not rows:
        raise InvalidDataset(f"{path} has no request", hint=HINT)
    rows.sort(key=lambda row: row[0])
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


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    table = csv.DictReader(lines, skipinitialspace=True)
    for row in table:
        yield table.line_num, {key.strip().lower(): row[key] for key in row if key}


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InvalidDataset(
                    f"line {number} must be an object: {line.strip()[:80]}", hint=HINT
                )
            yield number, {key.lower(): value for key, value in row.items()}


def _time_s(row: Mapping[str, Any], path: Path, number: int) -> float:
    """Time of a row, seconds since any fixed time."""
    told = next((row[key] for key in TIMES if row.get(key) not in (None, "")), None)
    if told is None:
        raise InvalidDataset(f"line {number} of {path} has no timestamp", hint=HINT)
    try:
        seconds = float(told)
    except (TypeError, ValueError):
        try:
            seconds = datetime.fromisoformat(str(told).strip()).timestamp()
        except ValueError:
            seconds = math.nan
    if not math.isfinite(seconds) or isinstance(told, bool):
        raise InvalidDataset(f"line {number} of {path} has the timestamp {told!r}", hint=HINT)
    return seconds


def _text(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((str(row[key]) for key in keys if row.get(key)), "")


def _size(row: Mapping[str, Any], path: Path, number: int) -> int:
    told = _text(row, SIZES)
    try:
        size = int(float(told)) if told else 0
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise InvalidDataset(f"line {number} of {path} has the size {told!r}", hint=HINT)
    return size
