"""Calibration pictures: which, in what order, through which preprocessing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.detect.decode import decode
from seatrial.detect.preprocess import fit
from seatrial.errors import InvalidDataset
from seatrial.progress import silent
from seatrial.quantise.calibration_images import CalibrationImages, check, choose, find_images


def test_the_choice_is_seeded_and_keeps_the_order() -> None:
    files = tuple(Path(f"{i:03}.jpg") for i in range(100))
    once = choose(files, 10, seed=1)
    assert once == choose(files, 10, seed=1) != choose(files, 10, seed=2)
    assert list(once) == sorted({*once})
    assert len(once) == 10
    assert choose(files, 300, seed=1) == files


def test_images_go_the_way_of_requests(tiny_artifact: Artifact, scene: Path) -> None:
    files = find_images(scene)
    assert len(files) == 16
    (feeds,) = CalibrationImages(files[:1], tiny_artifact.manifest).feeds()
    image = decode(files[0].read_bytes(), max_pixels=10**6)
    batch, _ = fit(image, tiny_artifact.manifest.preprocessing)
    np.testing.assert_array_equal(feeds["image"], batch)


def test_broken_images_are_told_apart_and_named(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene, tmp_path / "broken")
    broken = tmp_path / "broken" / "07.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    told: list[tuple[int, int]] = []
    files = find_images(tmp_path / "broken")
    found = check(files, "calibration", lambda what, *steps: told.append(steps))
    assert [one.file for one in found.skipped] == ["07.jpg"]
    assert found.files == tuple(file for file in files if file != broken)
    assert found.digest == check(found.files, "calibration", silent).digest
    assert told[-1] == (16, 16)


def test_the_digest_is_of_the_contents(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene, tmp_path / "copy")
    here, there = find_images(scene), find_images(tmp_path / "copy")
    digests = [check(files, "", silent).digest for files in (here, there, here[::-1])]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_folder_that_cannot_calibrate(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidDataset, match=what):
        find_images(tmp_path / what)
