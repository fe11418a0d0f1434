from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from seatrial.errors import InvalidDataset
from seatrial.load.images import load_images


def encoded(kind: str, size: tuple[int, int] = (32, 24)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "deep" / "B.JPEG").write_bytes(encoded("JPEG", (64, 48)))
    (tmp_path / "deep" / "er" / "c.png").write_bytes(encoded("PNG"))
    (tmp_path / "d.webp").write_bytes(encoded("WEBP"))
    (tmp_path / "labels.json").write_text("{}")
    return tmp_path


def test_any_folder_is_read_with_its_subfolders(folder):
    found = load_images(folder)
    names = {image.name for image in found.images}
    assert names == {"a.jpg", "deep/B.JPEG", "deep/er/c.png", "d.webp"}
    summary = found.summary
    assert (summary.found, summary.used, summary.other_files, summary.skipped) == (4, 4, 1, ())
    assert summary.content_types == {"image/jpeg": 2, "image/png": 1, "image/webp": 1}
    assert (summary.width_max, summary.height_min) == (64, 24)
    by_name = {image.name: image for image in found.images}
    assert by_name["a.jpg"].data == (folder / "a.jpg").read_bytes()
    assert (by_name["deep/B.JPEG"].width, by_name["deep/B.JPEG"].height) == (64, 48)


def test_images_in_other_formats_are_other_files(folder):
    (folder / "scan.bmp").write_bytes(encoded("BMP"))
    (folder / "scan.tiff").write_bytes(encoded("TIFF"))
    summary = load_images(folder).summary
    assert (summary.found, summary.used, summary.other_files) == (4, 4, 3)


def test_the_summary_measures_what_is_sent(folder):
    found = load_images(folder)
    sizes = [len(image.data) for image in found.images]
    summary = found.summary
    assert summary.bytes_mean == pytest.approx(sum(sizes) / 4)
    assert (summary.bytes_min, summary.bytes_max) == (min(sizes), max(sizes))
    assert (summary.width_min, summary.width_max) == (32, 64)
    assert (summary.height_min, summary.height_max) == (24, 48)
    assert summary.megapixels_mean == pytest.approx((3 * 32 * 24 + 64 * 48) / 4 / 1e6)
    assert summary.folder == str(folder)
    assert (summary.seed, summary.limit) == (0, 256)


def test_the_digest_is_of_names_bytes_and_order(folder):
    (folder / "labels.json").unlink()
    before = load_images(folder).summary.digest
    assert load_images(folder).summary.digest == before
    (folder / "a.jpg").rename(folder / "b.jpg")
    assert load_images(folder).summary.digest != before
    (folder / "b.jpg").rename(folder / "a.jpg")
    (folder / "a.jpg").write_bytes(encoded("JPEG"))
    assert load_images(folder).summary.digest != before


def test_content_type_comes_from_the_bytes(folder):
    (folder / "a.jpg").write_bytes(encoded("PNG"))
    assert {i.name: i.content_type for i in load_images(folder).images}["a.jpg"] == "image/png"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("truncated.jpg", encoded("JPEG", (200, 200))[:2000], "damaged or cut off"),
        ("text.jpg", b"not an image at all", "not in a known image format"),
        ("empty.png", b"", "the image is empty"),
        ("bomb.png", bomb(), "over the limit of"),
        ("really-a.jpg", encoded("GIF"), "GIF"),
        ("cut.png", encoded("PNG", (200, 200))[:3000], ""),
    ],
)
def test_broken_file_is_named_with_its_reason(folder, name, data, reason):
    (folder / name).write_bytes(data)
    found = load_images(folder)
    assert [skipped.name for skipped in found.summary.skipped] == [name]
    assert found.summary.skipped_count == 1
    assert reason in found.summary.skipped[0].reason
    assert found.summary.skipped[0].reason
    assert name not in {image.name for image in found.images}
    assert found.summary.used == 4


def test_sample_is_seeded_and_limited(image_folder):
    first = load_images(image_folder, limit=7, seed=3)
    again = load_images(image_folder, limit=7, seed=3)
    other = load_images(image_folder, limit=7, seed=4)
    names = [image.name for image in first.images]
    assert len(names) == 7
    assert names == [image.name for image in again.images]
    assert names != [image.name for image in other.images]
    assert first.summary.digest == again.summary.digest != other.summary.digest
    assert (first.summary.found, first.summary.used, first.summary.limit) == (20, 7, 7)


def test_broken_files_do_not_use_up_the_limit(folder):
    for n in range(5):
        (folder / f"bad{n}.jpg").write_bytes(b"bad")
    assert load_images(folder, limit=4).summary.used == 4


def test_no_folder(tmp_path):
    with pytest.raises(InvalidDataset, match="does not exist"):
        load_images(tmp_path / "nowhere")


def test_a_file_that_is_no_image_is_none(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("nothing here")
    with pytest.raises(InvalidDataset, match=r"no image in .*notes\.txt"):
        load_images(file)


def test_empty_folder_tells_what_is_accepted(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(InvalidDataset, match=r"no image in .*\(1 other files\)") as caught:
        load_images(tmp_path)
    assert ".webp" in caught.value.hint


def test_only_broken_files_names_the_first(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"bad")
    with pytest.raises(InvalidDataset, match="none of the 1 images") as caught:
        load_images(tmp_path)
    assert "x.jpg: the file is not in a known image format" in caught.value.hint


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_is_named_as_one(tmp_path, folder):
    (tmp_path / "pipes").mkdir()
    pipe = tmp_path / "pipes" / "x.jpg"
    os.mkfifo(pipe)
    os.mkfifo(tmp_path / "pipes" / "notes")
    with pytest.raises(InvalidDataset, match=r"x\.jpg is a pipe, not a folder"):
        load_images(pipe)
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w"):
        given = f"/dev/fd/{reading}"
        with pytest.raises(InvalidDataset, match=f"{given} is a pipe, not a folder"):
            load_images(Path(given))
    with pytest.raises(InvalidDataset, match="none of the 1 images") as caught:
        load_images(pipe.parent)
    assert caught.value.hint == "the first, x.jpg: it is a pipe, not a file"
    summary = load_images(folder).summary
    assert [(one.name, "pipe" in one.reason) for one in summary.skipped] == [("pipes/x.jpg", True)]
    assert (summary.found, summary.used) == (5, 4)


def test_one_file_is_a_set_of_one(folder):
    one = next(path for path in sorted(folder.rglob("*")) if path.suffix == ".jpg")
    alone = load_images(one)
    assert [image.name for image in alone.images] == [one.name]
    assert alone.images[0].data == one.read_bytes()
    assert (alone.summary.folder, alone.summary.found) == (str(one), 1)


def test_a_folder_that_must_not_be_read_says_so(folder, monkeypatch):
    def scandir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", scandir)  # whoever runs the tests may read all
    with pytest.raises(InvalidDataset, match="cannot be read: Permission denied") as caught:
        load_images(folder)
    assert caught.value.hint.startswith("see who may read it: ls -ld ")
