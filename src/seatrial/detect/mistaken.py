"""Known mistakes in the bytes that should be an image: some ways to a service change a file."""

from __future__ import annotations

import re

HEAD_BYTES = 512  # of a file, that are looked at

# First bytes -> what happened, and what to do.
_SEEMS = [
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), hint)
    for pattern, hint in (
        (
            rb"\s*[\"']?(?:data:[\w/+.-]*;base64,|/9j/[\w+/]{8}|iVBORw0KGgo|UklGR[\w+/]{8})",
            "it is base64: send the bytes that it stands for",
        ),
        (
            rb"(?:\r\n)?--[^\r\n]*\r\nContent-",
            "it is a form: its content type is multipart/form-data with a boundary, which HTTP "
            "clients write where none is named",
        ),
        (rb"\x1f\x8b\x08", "it is packed: unpack it, or say so with Content-Encoding: gzip"),
        (
            rb"\x89PNG(?!\r\n\x1a\n)|\xff\xd8\xff[^\x00\r\n]{61}",
            "bytes were taken away or changed, as where a file is sent as text: with curl, send it "
            "with --data-binary",
        ),
        (
            rb"\xc3\xbf\xc3\x98\xc3\xbf|\xc2\x89PNG|(?:\xef\xbf\xbd){2,3}|\xef\xbf\xbdPNG",
            "its bytes were taken for text and written in UTF-8: open and send the file as binary",
        ),
        (
            rb"b[\"']\\x(?:ff\\xd8|89PNG)",
            "it is what Python shows of bytes: send the bytes themselves",
        ),
        (rb"\s+(?:\xff\xd8\xff|\x89PNG\r\n)", "there is white space before the image"),
        (rb"\x93NUMPY", "it is an array of numpy: save it as a PNG"),
        (
            rb".{4}ftyp(?:mp4|iso|avc|M4V|qt  |3gp)|\x1aE\xdf\xa3|RIFF.{4}AVI ",
            "it is a video: send its images one by one",
        ),
        (rb"PK\x03\x04", "it is an archive: send the files in it one by one"),
        (
            rb"[ -~]{1,250}\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif|heic)[\r\n]*\Z",
            "it is the name of a file: send what the file holds (curl -F image=@photo.jpg)",
        ),
        (rb"\s*<(?:!doctype|html|\?xml)", "it is a page: what should give the image gave an error"),
        (rb"\s*[\[{]\s*(?:[\"\d\[{\]}]|\Z)", "it is JSON: send the file itself"),
    )
]  # fmt: skip


def seems(data: bytes | memoryview) -> str:
    """The hint for bytes that are no image, where they look like a known mistake.

    Args:
        data: The file, or its first `HEAD_BYTES`.

    Returns:
        A hint; empty where nothing is known.
    """
    head = bytes(data[:HEAD_BYTES])
    return next((hint for pattern, hint in _SEEMS if pattern.match(head)), "")
