"""Files that are something else than their names say: what a failed download or copy leaves."""

from __future__ import annotations

import re
from pathlib import Path

from seatrial.system.files import open_file

HEAD_BYTES = 512
_LFS = b"version https://git-lfs"
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
_XML = re.compile(rb"\s*<\?xml")
_JSON = re.compile(rb'\s*\{\s*"')
FETCH = "fetch the file itself: on a hub its download button, or the address with /resolve/"


def other_kind(path: Path, *, zipped: bool = False) -> tuple[str, str] | None:
    """The real kind of a file and what to do about it; None where nothing of it is known.

    Args:
        path: A file that can be read. XML and JSON are no models here.
        zipped: Whether it is a zip archive by its kind, as PyTorch's checkpoints are.

    Returns:
        A phrase for after "is", and a hint.
    """
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not head:
        return "empty", "copy or fetch it again"
    if (size := _pointed_bytes(text)) is not None:
        return (
            f"a Git LFS pointer to a file of {size:,} bytes, not that file",
            "run git lfs pull where it was cloned, or " + FETCH,
        )
    if _is_page(text):
        return "a web page (HTML)", FETCH
    if _XML.match(text) or _JSON.match(text):
        kind = "XML" if _XML.match(text) else "JSON"
        return f"{kind}, perhaps the answer of a server that refused the download", FETCH
    if head.startswith(b"PK\x03\x04") and not zipped:
        return (
            "a zip archive, as PyTorch's checkpoints are",
            "unpack it; or export the checkpoint: yolo export model=FILE.pt format=onnx",
        )
    if (
        head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd"))
        or head[257:262] == b"ustar"
    ):
        return "a packed archive", "unpack it first"
    return None


def _pointed_bytes(text: bytes) -> int | None:
    """Size of the file that a Git LFS pointer stands for; None where it is no pointer."""
    if not text.startswith(_LFS):
        return None
    pairs = dict(line.split(b" ", 1) for line in text.splitlines() if b" " in line)
    size = pairs.get(b"size", b"").strip()
    return int(size) if b"oid" in pairs and size.isdigit() else None


def _is_page(text: bytes) -> bool:
    """Whether a text is HTML, behind white space and comments."""
    text = text.lstrip()
    while text.startswith(b"<!--"):
        text = text.partition(b"-->")[2].lstrip()
    return text[:20].lower().startswith(_PAGE)
