"""Files, bodies and names as the hubs tell them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from seatrial.errors import InvalidInput
from seatrial.models.hubs.listing import Query, RemoteFile, Snapshot, nearest

DATA = b"content"
SHA256 = hashlib.sha256(DATA).hexdigest()
GIT = hashlib.sha1(b"blob 7\0" + DATA).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("file", "same"),
    [
        (RemoteFile("f", 7, sha256=SHA256), True),
        (RemoteFile("f", 7, git_sha1=GIT), True),
        (RemoteFile("f", 7, sha256=SHA256, git_sha1="0" * 40), True),  # sha256 goes first
        (RemoteFile("f", 7), True),
        (RemoteFile("f", 7, sha256="0" * 64), False),
        (RemoteFile("f", 7, git_sha1="0" * 40), False),
        (RemoteFile("f", 7, git_sha1=hashlib.sha1(DATA).hexdigest()), False),
        (RemoteFile("f", 8), False),
        (RemoteFile("f", 8, sha256=SHA256), False),
    ],
)
def test_a_file_is_the_listed_one(path: Path, file: RemoteFile, same: bool) -> None:
    assert file.matches(path) is same
    assert file.checkable == bool(file.sha256 or file.git_sha1)


def test_files_of_a_snapshot() -> None:
    files = tuple(RemoteFile(path, 1) for path in ("a.onnx", "b/c.onnx", "d.bin"))
    snapshot = Snapshot("huggingface", "a/b", "c", "mit", files)
    assert snapshot.file("b/c.onnx") == files[1]
    assert snapshot.file("c.onnx") is None
    assert snapshot.paths(".onnx") == ["a.onnx", "b/c.onnx"]


def test_the_nearest_names_or_a_search() -> None:
    hint = nearest("modelscope", "acme/yolo11", ["acme/yolo11t", "zebra/x"])
    assert hint == "did you mean modelscope:acme/yolo11t?"
    assert nearest("huggingface", "a/b", []) == "seatrial models search 'b' --source huggingface"


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_limits(limit: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        Query(limit=limit)


def test_limits_that_are_fine() -> None:
    assert (Query(limit=1).limit, Query(limit=1000).limit, Query().limit) == (1, 1000, 20)
