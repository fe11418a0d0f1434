"""Folders as Hypothesis draws them: checked, converted there and back, evaluated.

``pytest tests/datasets/test_convert_folders.py --folders 2000`` draws so many.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import dataset_folders
from dataset_folders import FORMATS, Labelled, damages, labelled
from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.check import check
from seatrial.datasets.convert import RewriteOptions, SplitOptions, convert, split
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import read_dataset
from seatrial.errors import SeatrialError

pytestmark = pytest.mark.slow

ROUNDING_PX = 1e-6
Box = tuple[str, str, bool, tuple[float, ...]]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


def fresh(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


def boxes(found: LabelledSet) -> list[Box]:
    """Image, class, crowd and box of each object, sorted. VOC's images lie in one folder."""
    truth = found.truth
    rows = zip(truth.image, truth.category, truth.crowd, truth.xywh, strict=True)
    return sorted(
        (
            PurePosixPath(found.images[image].name.replace("sub dir_", "")).name,
            found.categories[category].name,
            bool(crowd),
            tuple(xywh.tolist()),
        )
        for image, category, crowd, xywh in rows
    )


def drawn(dataset: Labelled, split: str) -> list[Box]:
    """The same of what was drawn."""
    return sorted(
        (PurePosixPath(picture.path).name, dataset.names[thing.kind], thing.crowd, thing.xywh)
        for picture in dataset.splits[split]
        for thing in picture.things
    )


def same(found: list[Box], wanted: list[Box]) -> None:
    found, wanted = (sorted(rows, key=_to_compare) for rows in (found, wanted))
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    off = np.array([row[3] for row in found]) - np.array([row[3] for row in wanted])
    assert np.abs(off).max(initial=0) < ROUNDING_PX


def _to_compare(row: Box) -> tuple[object, ...]:
    """Rows in an order that rounding does not change."""
    return (*row[:3], *(round(value, 4) for value in row[3]))


def figures(found: LabelledSet) -> tuple[float | None, ...]:
    """COCO's figures of detections that are a little off, in an order that is the labels' own."""
    truth = found.truth
    names = np.array([c.name for c in found.categories])[truth.category]
    order = np.lexsort((*truth.xywh.round(5).T, names))
    order = order[np.argsort(truth.image[order], kind="stable")]
    shift = np.minimum(truth.xywh[order, 2:3], truth.xywh[order, 3:4]) * 0.1
    moved = truth.xywh[order] + shift * np.array([1.0, -1.0, 0.0, 0.0])
    confidence = 1 / (2 + np.abs(np.sin(truth.xywh[order].round(5).sum(1))))
    predictions = Predictions(truth.image[order], truth.category[order], moved, confidence)
    _, scores = score(found, predictions)
    f = scores.figures
    return f.ap, f.ap50, f.ap75, f.ar100


@pytest.mark.parametrize("kind", FORMATS)
def test_sound_folders_come_through_every_format(
    scratch: Path, kind: str, folders: settings
) -> None:
    @folders
    @given(labelled(kind), st.sampled_from(FORMATS))
    def come_through(dataset: Labelled, other: str) -> None:
        home = fresh(scratch)
        dataset.write(home / "drawn")
        errors = [one for one in check(home / "drawn").issues if one.severity == "error"]
        assert errors == []
        convert(home / "drawn", home / "there", other)
        convert(home / "there", home / "back", kind)
        for name in dataset.splits:
            wanted = drawn(dataset, name)
            own = read_dataset(home / "drawn").sets[name]
            same(boxes(own), wanted)
            for folder, format_name in (("there", other), ("back", kind)):
                written = read_dataset(home / folder).sets
                found = written.get(name) or written["train"]
                same(boxes(found), wanted)
                assert {c.name for c in found.categories} >= {row[1] for row in wanted}
                if wanted:
                    assert figures(found) == pytest.approx(figures(own), abs=1e-9)
                assert format_name in found.source
        dataset_folders.remove(home)

    come_through()


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_folders_are_read_or_refused_in_words(
    scratch: Path, kind: str, folders: settings
) -> None:
    @folders
    @given(labelled(kind), damages(), st.sampled_from(FORMATS), st.booleans())
    def in_words(
        dataset: Labelled, chosen: list[tuple[int, str, int]], other: str, mend: bool
    ) -> None:
        home = fresh(scratch)
        dataset.write(home / "drawn")
        dataset_folders.damage(home / "drawn", chosen)
        rewrite = RewriteOptions(mend=mend)
        for attempt in (
            lambda: check(home / "drawn"),
            lambda: convert(home / "drawn", home / "there", other, rewrite),
            lambda: split(home / "drawn", home / "split", SplitOptions(), rewrite),
            lambda: read_labelled(f"{kind}:{home / 'drawn'}", split="train"),
        ):
            with contextlib.suppress(SeatrialError):
                attempt()
        dataset_folders.remove(home)

    in_words()


@pytest.fixture(scope="module")
def folders(request: pytest.FixtureRequest) -> settings:
    """How many folders each test draws: a sixth of ``--folders``."""
    count = request.config.getoption("folders")
    # An example is small as it is drawn; making it smaller takes minutes of writing folders.
    return settings(max_examples=max(1, int(count) // 6), phases=(Phase.generate,))
