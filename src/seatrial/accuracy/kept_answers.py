"""Answers of a subject kept in a file, so that an evaluation that was broken off goes on from them.

Each line is the answer to one image: it is written as soon as it is there, and belongs to the bytes
of the image, the thresholds and the model. So the file may hold answers to other images, too.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seatrial.accuracy.predict import SeenImage, Subject
from seatrial.config import UNDECODABLE
from seatrial.deployment import Thresholds
from seatrial.detect.answer import ImageSize
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidInput
from seatrial.system.files import read_bytes, writing

MODEL = ("digest", "engine", "device", "precision")  # what makes the answers of two subjects equal
BEGIN = b'{"key":"'  # of each line
HINT = "name another file (--resume)"


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    model: str
    width: int
    height: int
    boxes: list[tuple[float, float, float, float]]
    scores: list[float]
    class_ids: list[int]
    warnings: tuple[str, ...] = ()


class KeptAnswers:
    """A subject that is asked only for what is not in a file yet (`seatrial.accuracy.predict`).

    Args:
        subject: The detector.
        path: The file; it is made where it is not there.

    Attributes:
        found: Number of answers in the file at the beginning that are of this subject.
        others: Number of those of another model, engine, device or precision.
        used: Number of answers that were taken from it so far, and not asked for.

    Raises:
        InvalidInput: The file is there, is not empty, and is none of such answers; one that ends
            within its first line is none.
        NotWritable: It cannot be written.
    """

    def __init__(self, subject: Subject, path: Path) -> None:
        self._subject, self._path = subject, path
        self.labels, self.concurrency = subject.labels, subject.concurrency
        self._lock = threading.Lock()
        told = subject.describe()
        model = msgspec.json.encode([str(told.get(name, "")) for name in MODEL])
        self._model = hashlib.sha256(model).hexdigest()
        self._rows: dict[str, _Row] = {}
        self.others = self.used = 0
        whole = self._read() if path.exists() else 0
        self.found = len(self._rows)
        with writing(path, hint=HINT):
            self._file = path.open("ab")
            self._file.truncate(whole)  # a line that was broken off

    def _read(self) -> int:
        """Read the answers, and give the length of those that are whole, bytes."""
        data = read_bytes(self._path)
        whole = data.rfind(b"\n") + 1
        if data and not whole:  # it may be anybody's: what is not whole is cut off
            raise self._another("it has no whole line")
        try:
            for line in data[:whole].splitlines():
                row = msgspec.json.decode(line, type=_Row)
                _seen(row)
                if row.model == self._model:
                    self._rows[row.key] = row
                else:
                    self.others += 1
        except UNDECODABLE as error:
            raise self._another(str(error)) from error
        if not data[whole:].startswith(BEGIN[: len(data) - whole]):
            raise self._another("its last line is not the beginning of one")
        return whole

    def _another(self, why: str) -> InvalidInput:
        return InvalidInput(f"{self._path} has no answers of an evaluation: {why}", hint=HINT)

    def describe(self) -> dict[str, Any]:
        """See `Subject.describe`."""
        return self._subject.describe()

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """See `Subject.detect`."""
        key = self._key(data, rules)
        if (row := self._rows.get(key)) is not None:
            with self._lock:
                self.used += 1
            return _seen(row)
        seen = self._subject.detect(data, rules)
        found = seen.detections
        row = _Row(
            key,
            self._model,
            seen.size.width,
            seen.size.height,
            [tuple(box) for box in found.xyxy.tolist()],
            found.score.tolist(),
            found.class_id.tolist(),
            seen.warnings,
        )
        with self._lock, writing(self._path, hint=HINT):
            self._file.write(msgspec.json.encode(row) + b"\n")
            self._file.flush()
        return seen

    def _key(self, data: bytes, rules: Thresholds) -> str:
        told = msgspec.json.encode([self._model, rules])
        return hashlib.sha256(told + b"\n" + data).hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _seen(row: _Row) -> SeenImage:
    """The answer as the subject gave it: a float32 is the same again after JSON.

    Raises:
        ValueError: The numbers do not belong together.
    """
    found = Detections(
        np.array(row.boxes, np.float32).reshape(-1, 4),
        np.array(row.scores, np.float32),
        np.array(row.class_ids, np.int64),
    )
    return SeenImage(ImageSize(row.width, row.height), found, {}, row.warnings)
