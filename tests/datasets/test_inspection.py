"""Image files looked at: by their header, or decoded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.inspection import InspectedImage, in_threads, inspect_images

Change = Callable[[bytes], bytes]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(path, exif=exif)
    return path


@pytest.mark.parametrize("pixels", [False, True])
def test_a_whole_image_has_its_upright_size(photo: Path, pixels: bool) -> None:
    sha256 = hashlib.sha256(photo.read_bytes()).digest() if pixels else b""
    found = inspect_images([photo], pixels=pixels)
    assert found == {photo: InspectedImage(size=(24, 40), sha256=sha256)}


@pytest.mark.parametrize(
    ("change", "header", "decoded"),
    [
        (lambda data: data[:-200], "", "damaged or cut off"),
        (lambda data: data[:-200] + b"\xff\xd9", "", "premature end of data"),
        (lambda data: b"text", "damaged or not an image", "not in a known image format"),
        (lambda data: b"", "damaged or not an image", "empty"),
    ],
)
def test_damage_behind_the_header_is_found_by_decoding(
    photo: Path, change: Change, header: str, decoded: str
) -> None:
    photo.write_bytes(change(photo.read_bytes()))
    for pixels, said in ((False, header), (True, decoded)):
        found = inspect_images([photo], pixels=pixels)[photo]
        assert said in found.error
        assert bool(found.error) == bool(said)
        assert found.size == ((0, 0) if said else (24, 40))


def test_what_a_file_holds_and_what_it_is_called(photo: Path, tmp_path: Path) -> None:
    path = photo.rename(tmp_path / "a.webp")
    found = inspect_images([path])[path]
    assert found.warnings == (("misnamed-image", "holds JPEG, which its name does not say"),)
    path.write_bytes(path.read_bytes()[:-2] + bytes(30) + b"\xff\xd9")
    found = inspect_images([path])[path]
    assert [kind for kind, _ in found.warnings] == ["extraneous-bytes", "misnamed-image"]
    assert found.size == (24, 40)


def test_a_progressive_jpeg_that_lacks_scans_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.effect_noise((32, 32), 99).save(path, progressive=True)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9")
    found = inspect_images([path])[path]
    assert [kind for kind, _ in found.warnings] == ["missing-scans"]
    assert (found.size, found.error) == ((32, 32), "")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    for pixels in (False, True):
        assert "directory" in inspect_images([tmp_path], pixels=pixels)[tmp_path].error


def test_progress_counts_in_the_calling_thread_and_an_error_there_ends_it() -> None:
    paths = [Path(str(n)) for n in range(50)]
    begun: list[Path] = []
    seen: list[tuple[str, int, int]] = []

    def show(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        seen.append((what, done, total))
        if done == 3:
            raise KeyboardInterrupt

    def look(path: Path) -> Path:
        begun.append(path)
        if int(path.name) >= 3:
            time.sleep(0.2)  # what has begun goes on to its end
        return path

    with pytest.raises(KeyboardInterrupt):
        in_threads(look, paths, "looking", show)
    assert seen == [("looking", n, 50) for n in (1, 2, 3)]
    assert len(begun) < 50  # what waited never began
