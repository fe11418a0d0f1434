"""Image files on disk: found, told from other formats, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from seatrial.detect.decode import decode
from seatrial.errors import InvalidDataset
from seatrial.system.images import (
    EXIF_ORIENTATION,
    image_files,
    is_foreign,
    only_images,
    upright_size,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in (
        "b.jpg", "a.PNG", "c.txt", "sub/d.webp", "sub/e.tiff", "sub/deep/f.JPEG", "g.heic", "jpg",
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_images_of_a_folder_are_found_at_any_depth_sorted(folder: Path) -> None:
    found = ["a.PNG", "b.jpg", "g.heic", "sub/d.webp", "sub/deep/f.JPEG", "sub/e.tiff"]
    assert names(image_files(folder), folder) == found


def test_formats_that_are_not_read_are_left_out_on_request(folder: Path) -> None:
    found = ["a.PNG", "b.jpg", "sub/d.webp", "sub/deep/f.JPEG"]
    assert names(image_files(folder, foreign=False), folder) == found


def test_a_folder_without_images_has_none(tmp_path: Path) -> None:
    assert image_files(tmp_path) == []


def test_paths_are_sorted_and_named_once() -> None:
    given = [Path("b.png"), Path("a.jpg"), Path("b.png"), Path("a.gif"), Path("a.bmp")]
    assert only_images(given) == [Path("a.bmp"), Path("a.jpg"), Path("b.png")]


@pytest.mark.parametrize(
    ("name", "foreign"),
    [("a.jpg", False), ("a.JPEG", False), ("a.webp", False), ("a.TIF", True), ("a.heic", True)],
)
def test_foreign_formats_are_known_by_their_suffix(name: str, foreign: bool) -> None:
    assert is_foreign(Path(name)) is foreign


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_size_is_that_of_the_upright_image(
    tmp_path: Path, orientation: int | None, suffix: str
) -> None:
    file = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    if orientation is not None:
        exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", (30, 20)).save(file, exif=exif)
    sideways = orientation is not None and orientation >= 5
    assert upright_size(file) == ((20, 30) if sideways else (30, 20))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff='
    b'"http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
TAG = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"
LONG_6 = TAG + b"\x04\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # a number of type LONG, not SHORT


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("options", [{"xmp": XMP}, {"exif": LONG_6}], ids=["xmp", "long"])
def test_the_size_is_that_of_the_decoded_image(
    tmp_path: Path, suffix: str, options: dict[str, bytes]
) -> None:
    """Pillow's own orientation counts XMP and numbers of any type; the decoder does not."""
    file = tmp_path / f"image.{suffix}"
    Image.new("RGB", (30, 20)).save(file, **options)
    height, width, _ = decode(file.read_bytes(), max_pixels=10_000).shape
    assert upright_size(file) == (width, height) == (30, 20)


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.new("RGB", (30, 20)).save(file, exif=exif)
    data = file.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    tail = data.index(b"IEND") - 4
    file.write_bytes(data[:start] + data[end:tail] + data[start:end] + data[tail:])
    assert upright_size(file) == (20, 30)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(data)
    with pytest.raises(InvalidDataset, match=r"image\.jpg is damaged or not an image"):
        upright_size(file)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"gone\.jpg"):
        upright_size(tmp_path / "gone.jpg")
