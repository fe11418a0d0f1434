"""Bytes that are no image: what usually has happened to them is told, and nothing else."""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from seatrial.detect.decode import decode
from seatrial.detect.mistaken import seems
from seatrial.errors import InvalidImage, UnsupportedImage

Changed = Callable[[bytes], bytes]

FORM = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n%b\r\n--b--\r\n'


def as_text(data: bytes) -> bytes:
    """What ``curl -d @file`` sends of a file."""
    return data.translate(None, b"\r\n\0")


def an_array(data: bytes) -> bytes:
    kept = io.BytesIO()
    np.save(kept, np.frombuffer(data, np.uint8))
    return kept.getvalue()


MISTAKES: dict[str, tuple[Changed, str]] = {
    "base64": (base64.b64encode, "it is base64"),
    "a data URL": (lambda data: b"data:image/png;base64," + base64.b64encode(data), "it is base64"),
    "base64 as JSON": (lambda data: b'"' + base64.b64encode(data) + b'"', "it is base64"),
    "an object of JSON": (lambda data: b'{"image": "' + base64.b64encode(data), "it is JSON"),
    "a form": (lambda data: FORM % data, "it is a form"),
    "packed": (gzip.compress, "it is packed"),
    "as text": (as_text, "--data-binary"),
    "in UTF-8": (lambda data: data.decode("latin-1").encode(), "taken for text"),
    "in UTF-8 with losses": (lambda data: data.decode("utf-8", "replace").encode(), "taken for"),
    "as Python shows it": (lambda data: repr(data).encode(), "what Python shows"),
    "behind an empty line": (lambda data: b"\r\n" + data, "white space"),
    "an array": (an_array, "an array of numpy"),
    "a video": (lambda data: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + data, "it is a video"),
    "an archive": (lambda data: b"PK\x03\x04" + data, "it is an archive"),
    "a name": (lambda data: b"photos/my photo.JPG", "the name of a file"),
    "a name in a form": (lambda data: b"photo.png\n", "the name of a file"),
    "a page": (lambda data: b"<!DOCTYPE html><html><body>404", "it is a page"),
}


# The first bytes of a WebP are letters, as those of other files are.
BINARY = {
    "as text",
    "in UTF-8",
    "in UTF-8 with losses",
    "as Python shows it",
    "behind an empty line",
}


@pytest.mark.parametrize(
    ("image_format", "name"),
    [(f, n) for f in ("JPEG", "PNG", "WEBP") for n in MISTAKES if f != "WEBP" or n not in BINARY],
)
def test_a_known_mistake_is_told(
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
    image_format: str,
    name: str,
) -> None:
    changed, said = MISTAKES[name]
    data = changed(encode(picture(), image_format))
    with pytest.raises((UnsupportedImage, InvalidImage)) as refusal:
        decode(data, max_pixels=10**6)
    assert said in refusal.value.hint


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"RIFF", b"\0" * 600, b"\xff\xd8\xff\xe0\x00\x10JFIF", b"GIF89a", b"jpg"],
)
def test_nothing_is_made_up(data: bytes) -> None:
    assert seems(data) == ""


def test_a_damaged_image_is_no_mistake_of_these(
    picture: Callable[..., Image.Image], encode: Callable[..., bytes]
) -> None:
    for image_format in ("JPEG", "PNG", "WEBP"):
        data = encode(picture(), image_format)
        with pytest.raises(InvalidImage) as refusal:
            decode(data[: len(data) // 2], max_pixels=10**6)
        assert seems(data) == refusal.value.hint == ""
