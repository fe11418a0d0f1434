"""Files that are something else than their names say: what a failed download or copy leaves."""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 512
_LFS = re.compile(rb"version https://git-lfs\S*\s+(?:ext\S* .*\s+)*oid \S+\s+size (\d+)")
_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)", re.I | re.S)
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
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not head:
        return "empty", "copy or fetch it again"
    if (pointer := _LFS.match(text)) is not None:
        size = int(pointer[1])
        return (
            f"a Git LFS pointer to a file of {size:,} bytes, not that file",
            "run git lfs pull where it was cloned, or " + FETCH,
        )
    if _HTML.match(text):
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
