"""Answers in a file: an evaluation that was broken off goes on from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.kept_answers import KeptAnswers
from seatrial.accuracy.predict import EVALUATION, SeenImage
from seatrial.deployment import Thresholds
from seatrial.detect.answer import ImageSize
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidInput, NotWritable, ServiceFailed


class Counting:
    """Answers with boxes that its images name, and counts them; fails at the image ``b"fail"``."""

    labels = ("red",)
    concurrency = 3

    def __init__(self, digest: str = "d") -> None:
        self.asked: list[bytes] = []
        self._digest = digest

    def describe(self) -> dict[str, Any]:
        return {"url": "http://x", "digest": self._digest, "engine": "e"}

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        self.asked.append(data)
        if data == b"fail":
            raise ServiceFailed("answers 504")
        boxes = np.array([[0.1, 1 / 3, 1e6 / 7, 2]] * len(data), np.float32).reshape(-1, 4)
        found = Detections(boxes, boxes[:, 0].copy(), np.arange(len(data), dtype=np.int64))
        return SeenImage(ImageSize(4, 3), found, {"infer": 1.0}, ("odd",))


def same(one: SeenImage, other: SeenImage) -> bool:
    a, b = one.detections, other.detections
    return (
        (one.size, one.warnings) == (other.size, other.warnings)
        and np.array_equal(a.xyxy, b.xyxy)
        and np.array_equal(a.score, b.score)
        and np.array_equal(a.class_id, b.class_id)
    )


def test_what_is_in_the_file_is_not_asked_for_again(tmp_path: Path) -> None:
    file, images = tmp_path / "answers", [b"", b"a", b"bb", b"ccc"]
    first = Counting()
    with closing(KeptAnswers(first, file)) as kept, ThreadPoolExecutor(4) as pool:
        assert (kept.labels, kept.concurrency, kept.found) == (("red",), 3, 0)
        assert kept.describe() == first.describe()
        before = list(pool.map(lambda image: kept.detect(image, EVALUATION), images))
        with pytest.raises(ServiceFailed):
            kept.detect(b"fail", EVALUATION)
    again = Counting()
    with closing(KeptAnswers(again, file)) as kept:
        assert (kept.found, kept.others, kept.used) == (4, 0, 0)
        after = [kept.detect(image, EVALUATION) for image in images[1:]]
        assert kept.used == 3
        after.insert(0, kept.detect(images[0], EVALUATION))
        assert again.asked == []
        kept.detect(b"another", EVALUATION)
        kept.detect(b"a", msgspec.structs.replace(EVALUATION, confidence=0.5))
        assert again.asked == [b"another", b"a"]
    assert all(same(one, other) for one, other in zip(before, after, strict=True))
    other = Counting("another")
    with closing(KeptAnswers(other, file)) as kept:
        assert (kept.found, kept.others) == (0, 6)
        kept.detect(b"a", EVALUATION)
        assert (other.asked, kept.used) == ([b"a"], 0)


def test_a_line_that_was_broken_off_is_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    with closing(KeptAnswers(Counting(), file)) as kept:
        for image in (b"a", b"bb"):
            kept.detect(image, EVALUATION)
    whole = file.read_bytes()
    end = whole.index(b"\n") + 1
    for cut in (end, end + 1, end + 20, len(whole) - 1):
        file.write_bytes(whole[:cut])
        subject = Counting()
        with closing(KeptAnswers(subject, file)) as kept:
            for image in (b"a", b"bb"):
                kept.detect(image, EVALUATION)
        assert subject.asked == [b"bb"]
        assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [b"{}\n", b"notes of mine", b'{"key":"x"}\n', b"\xff\n", b"\n", b"{", b'{"key":"',
     b'{"key":"sk-123","note":"only copy"}', b'{"key":"x"}\n{"key":"',
     b'{"key":"x","model":"m","width":1,"height":1,"boxes":[[0,0,1,1]],"scores":[],"class_ids":[]}\n'],
)  # fmt: skip
def test_a_file_of_something_else_is_not_written_to(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="has no answers of an evaluation"):
        KeptAnswers(Counting(), file)
    assert file.read_bytes() == content


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    file.touch()
    with closing(KeptAnswers(Counting(), file)) as kept:
        kept.detect(b"a", EVALUATION)
    assert file.read_bytes().count(b"\n") == 1


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(NotWritable):
        KeptAnswers(Counting(), tmp_path / "none" / "answers")
