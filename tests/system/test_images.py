"""Image files on disk: found, told from other formats, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from seatrial.detect.decode import decode, decode_file
from seatrial.errors import InvalidDataset
from seatrial.system import images
from seatrial.system.images import (
    EXIF_ORIENTATION,
    file_formats,
    foreign_reason,
    image_files,
    is_foreign,
    only_images,
    orientation,
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
    (folder / "h.dng").write_bytes(b"")
    found = ["a.PNG", "b.jpg", "sub/d.webp", "sub/deep/f.JPEG", "sub/e.tiff"]
    assert "h.dng" in names(image_files(folder), folder)
    assert names(image_files(folder, foreign=False), folder) == found


def test_a_folder_without_images_has_none(tmp_path: Path) -> None:
    assert image_files(tmp_path) == []


def test_paths_are_sorted_and_named_once() -> None:
    given = [Path("b.png"), Path("a.jpg"), Path("b.png"), Path("._b.png"), Path("a.bmp"), Path("b")]
    assert only_images(given) == [Path("a.bmp"), Path("a.jpg"), Path("b.png")]


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("a.jpg", False),
        ("a.JPEG", False),
        ("a.webp", False),
        ("a.TIF", False),
        ("a.jfif", False),
        ("a.CR2", True),
        ("a.jxl", True),
    ],
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


def save(picture: Image.Image, file: Path, options: dict[str, bytes]) -> None:
    """Save with EXIF and XMP; Pillow writes XMP into a PNG as text only."""
    more = {}
    if file.suffix == ".png" and "xmp" in options:
        more["pnginfo"] = PngImagePlugin.PngInfo()
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", options["xmp"].decode())
    picture.save(file, **options, **more)


LONG_6 = TAG + b"\x04\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # a number of type LONG, not SHORT
BYTE_6 = TAG + b"\x01\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "options", [{"xmp": XMP}, {"exif": LONG_6}, {"exif": BYTE_6}], ids=["xmp", "long", "byte"]
)
def test_the_size_is_that_of_the_decoded_image(
    tmp_path: Path, suffix: str, options: dict[str, bytes]
) -> None:
    """XMP counts where EXIF says nothing; of EXIF's numbers, SHORT and LONG."""
    file = tmp_path / f"image.{suffix}"
    save(Image.new("RGB", (30, 20)), file, options)
    height, width, _ = decode(file.read_bytes(), max_pixels=10_000).shape
    turned = options != {"exif": BYTE_6}
    assert upright_size(file) == (width, height) == ((20, 30) if turned else (30, 20))


ELEMENT = XMP.replace(b' tiff:Orientation="6"/>', b"><tiff:Orientation> 6 </tiff:Orientation>")
NINE = XMP.replace(b'"6"', b'"9"')
EXIF_1, EXIF_8 = (TAG + b"\x03\0\x01\0\0\0" + bytes([n]) + bytes(7) for n in (1, 8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
@pytest.mark.parametrize(
    ("options", "orientation"),
    [
        ({"xmp": XMP}, 6),
        ({"xmp": NINE}, 1),
        ({"xmp": XMP, "exif": EXIF_1}, 1),  # EXIF comes first
        ({"xmp": XMP, "exif": EXIF_8}, 8),
        ({"exif": EXIF_8}, 8),
    ],
    ids=["xmp", "xmp 9", "both 1", "both 8", "exif"],
)
def test_header_and_decoder_turn_an_image_alike(
    tmp_path: Path, suffix: str, options: dict[str, bytes], orientation: int
) -> None:
    if suffix == "avif" and "AVIF" not in file_formats():
        pytest.skip("this Pillow reads no AVIF")
    file = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif.load(options.get("exif", b""))
    if suffix == "tif":  # its tags hold both
        exif[700] = options.get("xmp", b"")
        options = {"exif": exif}
    if suffix == "avif" and "exif" not in options:
        orientation = 1  # its container alone counts
    picture = Image.new("RGB", (30, 20), "white")
    picture.paste("black", (0, 0, 15, 10))  # the corner at the top left
    save(picture, file, options)
    image = decode_file(file, max_pixels=10_000)
    height, width, _ = image.shape
    assert upright_size(file) == (width, height) == ((20, 30) if orientation >= 5 else (30, 20))
    dark = {corner: image[y, x].max() < 99 for corner, (y, x) in
            {"left": (2, 2), "right": (2, -3), "low": (-3, 2)}.items()}  # fmt: skip
    assert [corner for corner, found in dark.items() if found] == [
        {1: "left", 6: "right", 8: "low"}[orientation]
    ]


def test_an_orientation_in_an_element_of_xmp_counts() -> None:
    assert [orientation(b"", xmp) for xmp in (ELEMENT, XMP.replace(b'"6"', b"'3'"), b"")] == [
        6,
        3,
        1,
    ]


def test_links_to_folders_are_followed_and_a_circle_is_told(tmp_path: Path) -> None:
    for name in ("a/b", "far"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/b/1.png", "far/2.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "far")  # twice is no circle
    (tmp_path / "far" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "gone")
    told: list[Path] = []
    found = image_files(tmp_path / "a", on_cycle=told.append)
    assert names(found, tmp_path / "a") == ["again/2.png", "b/1.png", "far/2.png"]
    assert names(told, tmp_path / "a") == ["again/up", "far/up"]


def test_links_that_lead_nowhere_are_found_and_end_no_search(tmp_path: Path) -> None:
    """Whoever reads them says so; one in a folder of thousands must not hide the others."""
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "dead.png").symlink_to("gone.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "self").symlink_to("self")
    assert names(image_files(tmp_path), tmp_path) == ["1.png", "dead.png", "self.png"]


def test_what_a_format_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert foreign_reason(Path("a.jfif")) == foreign_reason(Path("a.tiff")) == ""
    assert foreign_reason(Path("a.CR2")) == ".cr2 files are not read: convert it to JPEG or PNG"
    monkeypatch.setattr(images, "file_formats", lambda: ("JPEG", "PNG", "WEBP"))
    for name, remedy in (("a.heic", "pip install pillow-heif"), ("a.avif", "pillow>=11.3")):
        assert remedy in foreign_reason(Path(name))
        assert is_foreign(Path(name))


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


def test_damage_of_a_chunk_that_nobody_reads_hides_no_size(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.new("RGB", (30, 20)).save(file, exif=exif)
    data = file.read_bytes()
    file.write_bytes(data[:33] + b"\0\0\0\3tEXta\0bWRNG" + data[33:])
    assert upright_size(file) == (20, 30)
    file.write_bytes(data[:30] + b"\0" + data[31:])  # a byte of the header's checksum
    with pytest.raises(InvalidDataset, match=r"image\.png is damaged .* its header is broken"):
        upright_size(file)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(data)
    with pytest.raises(InvalidDataset, match=r"image\.jpg is damaged or not an image"):
        upright_size(file)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"gone\.jpg"):
        upright_size(tmp_path / "gone.jpg")
