"""Calibration pictures: which, in what order, through which preprocessing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidDataset
from seatrial.lifecycle.compress.pictures import Pictures, check, choose, find_pictures
from seatrial.request.decode import decode
from seatrial.request.preprocess import fit


def quiet(what: str, done: int, total: int) -> None: ...


def test_the_choice_is_seeded_and_keeps_the_order() -> None:
    files = tuple(Path(f"{i:03}.jpg") for i in range(100))
    once = choose(files, 10, seed=1)
    assert once == choose(files, 10, seed=1) != choose(files, 10, seed=2)
    assert list(once) == sorted({*once})
    assert len(once) == 10
    assert choose(files, 300, seed=1) == files


def test_pictures_go_the_way_of_requests(tiny_artifact: Artifact, scene: Path) -> None:
    files = find_pictures(scene)
    assert len(files) == 16
    (feeds,) = Pictures(files[:1], tiny_artifact.manifest).feeds()
    image = decode(files[0].read_bytes(), max_pixels=10**6)
    batch, _ = fit(image, tiny_artifact.manifest.preprocessing)
    np.testing.assert_array_equal(feeds["image"], batch)


def test_a_broken_picture_is_named_before_the_work_begins(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene, tmp_path / "broken")
    broken = tmp_path / "broken" / "07.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(InvalidDataset, match=r"07\.jpg") as refusal:
        check(find_pictures(tmp_path / "broken"), quiet)
    assert "replace the picture" in refusal.value.hint


def test_the_digest_is_of_the_contents(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene, tmp_path / "copy")
    here, there = find_pictures(scene), find_pictures(tmp_path / "copy")
    assert check(here, quiet) == check(there, quiet) != check(here[::-1], quiet)


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_folder_that_cannot_calibrate(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidDataset, match=what):
        find_pictures(tmp_path / what)
