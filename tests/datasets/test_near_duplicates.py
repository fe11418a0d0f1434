"""Fingerprints: equal, nearly equal and different images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.near_duplicates import (
    NEAR_BITS,
    NEAR_LEVELS,
    Fingerprint,
    fingerprint,
    fingerprints,
    nearest,
)


def made(bits: int, level: float = 0, name: str = "a") -> Fingerprint:
    """A fingerprint whose hash has so many bits set, and whose thumbnail has one level."""
    number = np.array([(1 << bits) - 1], np.uint64)
    thumbnail = np.full(768, level, np.uint8)
    return Fingerprint(
        path=Path(name), sha256=name.encode(), hash=number.view(np.uint16), thumbnail=thumbnail
    )


def test_nearly_the_same_up_to_the_limits_of_both() -> None:
    ones = [made(0)]
    assert nearest(ones, [made(NEAR_BITS, NEAR_LEVELS)]) == [(0, 0)]
    assert nearest(ones, [made(NEAR_BITS + 1, 0)]) == [(0, None)]
    assert nearest(ones, [made(0, NEAR_LEVELS + 1)]) == [(0, None)]


def test_the_most_similar_thumbnail_is_chosen() -> None:
    others = [made(0, 5), made(3, 1), made(1, 2)]
    assert nearest([made(0), made(0, 5)], others) == [(0, 1), (1, 0)]


def test_only_images_before_count_in_one_list() -> None:
    alike = [made(0), made(0, 1), made(64), made(0, 2)]
    assert nearest(alike, alike, before=True) == [(0, None), (1, 0), (2, None), (3, 1)]


def test_many_images_are_compared_in_blocks() -> None:
    many = [made(number % 2 * 64, 0) for number in range(600)]
    found = nearest(many, many[:2])
    assert found == [(number, number % 2) for number in range(600)]


def test_nothing_to_compare_with() -> None:
    assert nearest([made(0)], []) == [(0, None)]
    assert nearest([], [made(0)]) == []


def test_an_image_saved_again_is_nearly_the_same_and_its_mirror_is_not(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(blocks).resize((200, 150), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    image.resize((100, 75)).save(tmp_path / "b.jpg", quality=60)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "c.png")
    image.save(tmp_path / "d.jpg", quality=95, exif=turned())
    one, again, mirrored, sideways = (
        fingerprint(tmp_path / name) for name in ("a.png", "b.jpg", "c.png", "d.jpg")
    )
    assert (one.size, again.size, sideways.size) == ((200, 150), (100, 75), (150, 200))
    assert one.sha256 != again.sha256
    assert nearest([one], [mirrored, again, sideways]) == [(0, 1)]


def test_the_hash_says_where_the_image_becomes_brighter(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8), (80, 1))
    hashes = []
    for name, pixels in (("up", ramp), ("down", ramp[:, ::-1]), ("flat", np.full_like(ramp, 90))):
        Image.fromarray(np.stack([pixels] * 3, 2)).save(tmp_path / f"{name}.png")
        hashes.append(fingerprint(tmp_path / f"{name}.png").hash.tolist())
    assert hashes == [[0xFFFF] * 4, [0] * 4, [0] * 4]


def turned() -> Any:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_files_that_cannot_be_decoded_say_why(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    (tmp_path / "b.jpg").mkdir()
    steps: list[tuple[object, ...]] = []
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    found = fingerprints(paths, lambda *step: steps.append(step))
    assert list(found) == paths
    assert "not in a known image format" in found[paths[0]].error
    assert found[paths[1]].error == "cannot be read: Is a directory"
    assert {one.size for one in found.values()} == {(0, 0)}
    assert {len(one.thumbnail) + len(one.hash) for one in found.values()} == {0}
    assert steps == [("comparing images", 1, 2), ("comparing images", 2, 2)]


def test_an_error_in_between_ends_all(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")

    def stop(*step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprints(sorted(tmp_path.iterdir()), stop)
