"""Files are taken and left out by the rules of the service, not by those of a library."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from tests.support.jpeg_by_hand import jpeg_by_hand

from seatrial.client.served_files import served_file
from seatrial.deployment import Limits
from seatrial.detect import decode as decode_module
from seatrial.detect.decode import decode
from seatrial.errors import InputTooLarge, SeatrialError
from seatrial.load.images import load_images

WIDTH, HEIGHT = 32, 24
ROW = b"\0" + bytes(range(3 * WIDTH))
DEFAULT = Limits().image_pixels


def chunk(kind: bytes, content: bytes = b"", wrong: int = 0) -> bytes:
    check = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(rows: int = HEIGHT, before: bytes = b"", packed: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", packed or zlib.compress(ROW * rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + chunk(b"IEND")


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(buffer, kind, **options)
    return buffer.getvalue()


EMPTY = b"\0\0\0\xff\xff"  # a block of deflate that holds nothing
FILES = {
    "whole.png": png(),
    "half.png": png(HEIGHT // 2),
    "checksum-of-a-text.png": png(before=chunk(b"iTXt", b"a\0\0\0\0\0b", 1)),
    "long-text.png": png(before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3 * 2**20)))),
    "packed-longer.png": png(packed=zlib.compress(b"")[:2] + EMPTY * 4000 + b"\3\0\0\0\0\1"),
    "colours-missing.jpg": jpeg_by_hand(((1, 1),) * 3, scans=[[0], [1]]),
    "sampling.jpg": jpeg_by_hand(((2, 2), (1, 1), (1, 2))),
    "cut.jpg": saved("JPEG")[:-200],
    "photo.jpg": saved("JPEG"),
    "photo.webp": saved("WEBP"),
    "bitmap.png": saved("BMP"),
    "several.jpg": saved("JPEG") + saved("JPEG"),
    "empty.jpg": b"",
}


def refusal(data: bytes, max_pixels: int = DEFAULT) -> str:
    """What the service says of a file; empty where it takes it."""
    try:
        decode(data, max_pixels=max_pixels)
    except SeatrialError as error:
        return error.message
    return ""


def test_a_folder_is_chosen_from_by_what_the_service_takes(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    found = load_images(tmp_path)
    taken = {name for name, data in FILES.items() if not refusal(data)}
    assert {"whole.png", "checksum-of-a-text.png", "long-text.png", "sampling.jpg"} <= taken
    assert not {"half.png", "packed-longer.png", "colours-missing.jpg", "bitmap.png"} & taken
    assert {image.name for image in found.images} == taken
    assert {skipped.name for skipped in found.summary.skipped} == FILES.keys() - taken
    reasons = {skipped.name: skipped.reason for skipped in found.summary.skipped}
    for name in FILES.keys() - taken - {"cut.jpg"}:  # a place in its blocks, by its scale
        assert reasons[name] == refusal(FILES[name]), name


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("whole.png", "image/png"), ("photo.webp", "image/webp"), ("several.jpg", "image/jpeg")],
)
def test_a_file_has_its_own_type_and_size(name: str, content_type: str) -> None:
    assert served_file(FILES[name]) == (content_type, WIDTH, HEIGHT)
    turned = saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0")
    assert served_file(turned)[1:] == (WIDTH, HEIGHT)  # as stored


def test_the_limit_is_that_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    assert load_images(tmp_path, max_pixels=WIDTH * HEIGHT).summary.used == 1
    with pytest.raises(InputTooLarge, match="over the limit"):
        served_file(png(), max_pixels=WIDTH * HEIGHT - 1)


def test_each_file_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    by_name = {"decode": decode_module.decode, "_jpeg_pixels": decode_module._jpeg_pixels}
    for name, own in by_name.items():

        def counted(*args: object, own=own, name=name, **options: object) -> object:
            decoded.append(name)
            return own(*args, **options)

        monkeypatch.setattr(decode_module, name, counted)
    served_file(FILES["photo.jpg"])
    served_file(FILES["whole.png"])
    assert decoded == ["_jpeg_pixels", "decode"]
