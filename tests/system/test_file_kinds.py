"""What a failed download or copy leaves under the name of a model."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from seatrial.system.file_kinds import other_kind


def packed(kind: str) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("model/data.pkl", "x")
    elif kind == "tar":
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("model.onnx"))
    else:
        return gzip.compress(b"model")
    return data.getvalue()


KINDS = {
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"a" * 64
        + b"\nsize 10623841\n",
        "a Git LFS pointer to a file of 10,623,841 bytes, not that file",
    ),
    "pointer-with-extension": (
        b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:b\noid sha256:a\nsize 12\n",
        "a Git LFS pointer to a file of 12 bytes",
    ),
    "pointer-of-windows": (
        b"version https://git-lfs.github.com/spec/v1\r\noid sha256:a\r\nsize 12\r\n",
        "a Git LFS pointer",
    ),
    "page": (b"<!DOCTYPE html>\n<html lang=en>", "a web page"),
    "page-after-blank-lines": (b"\n\n  <html><head>", "a web page"),
    "page-after-a-mark-and-a-comment": (b"\xef\xbb\xbf<!-- saved --><!doctype HTML>", "a web page"),
    "refusal-of-a-bucket": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "XML"),
    "refusal-of-an-api": (b'{"message": "Not Found"}', "JSON"),
    "nothing": (b"", "empty"),
    "zip": (packed("zip"), "a zip archive"),
    "tar": (packed("tar"), "a packed archive"),
    "gzip": (packed("gzip"), "a packed archive"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is_is_said_with_what_to_do(tmp_path: Path, kind: str) -> None:
    content, wanted = KINDS[kind]
    (tmp_path / "model.onnx").write_bytes(content)
    found = other_kind(tmp_path / "model.onnx")
    assert found is not None
    assert found[0].startswith(wanted)
    assert found[1]


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize(
    "content",
    [
        b"<!---->" * 73,
        b"<!--" * 128,
        b" " * 512,
        b"version https://git-lfs\n" + b"ext ext ext " + b"ext a " * 80,
        b"version https://git-lfs" + b"\next a a" * 60,
    ],
)
def test_a_head_that_is_nearly_a_page_or_a_pointer_is_read_over_once(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert other_kind(tmp_path / "model.onnx") is None


@pytest.mark.parametrize("content", [b"\x08\x08\x12\x07pytorch", b"\x00" * 600, b"version 1\n"])
def test_other_content_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert other_kind(tmp_path / "model.onnx") is None


def test_a_checkpoint_of_torch_is_a_zip_archive_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(packed("zip"))
    assert other_kind(tmp_path / "model.pt", zipped=True) is None
