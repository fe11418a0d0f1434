"""One file: resumed where it was cut off, checked by its hash."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import InvalidInput, NotWritable, SourceUnavailable
from seatrial.models.hubs import download as module
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.download import RemoteFile, download
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.modelscope import ModelScope
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.transport import Client

PATH = "onnx/model.onnx"
SOURCES = ("huggingface", "modelscope")


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def remote(access: Access, yolo: Any, source: Any) -> RemoteFile:
    """The ONNX file as the hub lists it."""
    client = Client(access)
    asked = HuggingFace if source == "huggingface" else ModelScope
    snapshot = asked(client, access.hub(source)).snapshot(Reference(source, yolo.id))
    file = snapshot.file(PATH)
    assert file is not None
    return file


@pytest.fixture
def fetch(
    access: Access, source: Any, remote: RemoteFile, tmp_path: Path
) -> Callable[..., list[int]]:
    """Downloads the file to ``tmp_path / "file"`` and returns the bytes it told of."""

    def run(file: RemoteFile = remote) -> list[int]:
        told: list[int] = []
        download(
            Client(access), access.hub(source), file, tmp_path / "file",
            lambda name, done, total: told.append(done),
        )  # fmt: skip
        return told

    return run


def ranges(hub: Any) -> list[str]:
    return [seen.headers.get("Range", "") for seen in hub.asked("/cdn/")]


def test_a_whole_file(
    hub: Any, fetch: Callable[..., list[int]], tmp_path: Path, weighty: bytes
) -> None:
    told = fetch()
    assert (tmp_path / "file").read_bytes() == weighty
    assert told == sorted(told)
    assert told[-1] == len(weighty)
    assert len(told) >= 3  # some MB, told of every MiB
    assert ranges(hub) == [""]
    assert not (tmp_path / "file.part").exists()


def test_a_file_that_is_there_is_not_fetched(
    hub: Any, fetch: Callable[..., list[int]], weighty: bytes
) -> None:
    fetch()
    assert fetch() == [len(weighty)]
    assert len(hub.asked("/cdn/")) == 1


def test_a_body_that_is_cut_off_goes_on_where_it_was(
    hub: Any,
    fetch: Callable[..., list[int]],
    fault: Callable[..., Any],
    tmp_path: Path,
    weighty: bytes,
) -> None:
    hub.faults += [fault("/cdn/", cut=1_000_000), fault("/cdn/", cut=500_000)]
    told = fetch()
    assert (tmp_path / "file").read_bytes() == weighty
    assert ranges(hub) == ["", "bytes=1000000-", "bytes=1500000-"]
    assert told == sorted(told)


def test_the_next_call_goes_on_where_the_last_gave_up(
    hub: Any,
    fetch: Callable[..., list[int]],
    fault: Callable[..., Any],
    tmp_path: Path,
    weighty: bytes,
    remote: RemoteFile,
) -> None:
    hub.faults += [fault("/cdn/", cut=2_000_000), fault("/cdn/", cut=0, times=4)]
    with pytest.raises(SourceUnavailable) as refusal:
        fetch()
    assert f"cuts {PATH} off after 2000000 of {len(weighty)} bytes" in refusal.value.message
    assert "the same command goes on from there" in refusal.value.hint
    assert "ENDPOINT" in refusal.value.hint
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "file.part").stat().st_size == 2_000_000
    hub.seen.clear()
    fetch()
    assert ranges(hub) == ["bytes=2000000-"]
    assert (tmp_path / "file").read_bytes() == weighty


def test_a_server_that_ignores_ranges_costs_a_restart(
    hub: Any,
    fetch: Callable[..., list[int]],
    fault: Callable[..., Any],
    tmp_path: Path,
    weighty: bytes,
) -> None:
    hub.faults += [fault("/cdn/", cut=1_000_000), fault("/cdn/", ignore_range=True)]
    fetch()
    assert ranges(hub) == ["", "bytes=1000000-"]
    assert (tmp_path / "file").read_bytes() == weighty


def test_a_part_that_is_damaged_costs_a_second_download(
    hub: Any, fetch: Callable[..., list[int]], tmp_path: Path, weighty: bytes
) -> None:
    (tmp_path / "file.part").write_bytes(bytes(1_000_000))
    fetch()
    assert ranges(hub) == ["bytes=1000000-", ""]
    assert (tmp_path / "file").read_bytes() == weighty


def test_a_part_that_is_too_long(
    hub: Any, fetch: Callable[..., list[int]], tmp_path: Path, weighty: bytes
) -> None:
    (tmp_path / "file.part").write_bytes(weighty + b"more")
    fetch()
    assert (tmp_path / "file").read_bytes() == weighty


def test_a_part_that_was_complete(
    hub: Any, fetch: Callable[..., list[int]], tmp_path: Path, weighty: bytes
) -> None:
    (tmp_path / "file.part").write_bytes(weighty)
    fetch()
    assert hub.asked("/cdn/") == []
    assert (tmp_path / "file").read_bytes() == weighty


def test_another_content_of_the_same_size_is_refused(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any], tmp_path: Path
) -> None:
    hub.faults.append(fault("/cdn/", corrupt=True))
    with pytest.raises(SourceUnavailable, match="is not the file that it lists") as refusal:
        fetch()
    assert "do not use it" in refusal.value.hint
    assert "ENDPOINT" in refusal.value.hint
    assert list(tmp_path.iterdir()) == [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", bytes(9_000_000)])
def test_another_size_is_refused_before_it_is_read(
    hub: Any,
    fetch: Callable[..., list[int]],
    fault: Callable[..., Any],
    tmp_path: Path,
    body: bytes,
) -> None:
    hub.faults.append(fault("/cdn/", body=body))
    with pytest.raises(SourceUnavailable, match="is not the file that it lists"):
        fetch()
    assert len(hub.asked("/cdn/")) == 1
    assert not (tmp_path / "file").exists()


def test_a_wrong_git_hash_is_refused(
    hub: Any, fetch: Callable[..., list[int]], remote: RemoteFile, weighty: bytes
) -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(weighty) + weighty).hexdigest()
    fine = msgspec.structs.replace(remote, sha256="", git_sha1=blob)
    fetch(fine)
    with pytest.raises(SourceUnavailable, match="is not the file that it lists"):
        fetch(msgspec.structs.replace(remote, sha256="", git_sha1="0" * 40))


def test_an_empty_file(
    fetch: Callable[..., list[int]], hub: Any, yolo: Any, tmp_path: Path
) -> None:
    hub.push(yolo.id, {"empty.onnx": b""})
    sha256 = hashlib.sha256(b"").hexdigest()
    url = f"{hub.url}/{yolo.id}/resolve/main/empty.onnx"
    fetch(RemoteFile("empty.onnx", url, 0, sha256=sha256))
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_that_is_gone(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault("/cdn/", status=404))
    with pytest.raises(InvalidInput, match="has nothing at"):
        fetch()


def test_a_cdn_that_stumbles(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any], tmp_path: Path
) -> None:
    hub.faults += [fault("/cdn/", cut=1_000_000), fault("/cdn/", status=503, times=2)]
    fetch()
    assert (tmp_path / "file").is_file()


def test_a_hub_that_is_gone_is_not_asked_again_and_again(
    hub: Any, fetch: Callable[..., list[int]], remote: RemoteFile
) -> None:
    hub.close()
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        fetch()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk(
    fetch: Callable[..., list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.part").symlink_to("/dev/full")
    monkeypatch.setattr(module, "_size", lambda path: 0)
    with pytest.raises(NotWritable, match="No space left") as refusal:
        fetch()
    assert "free some space" in refusal.value.hint


KILLED = """
import os, sys
from pathlib import Path
from seatrial.models.hubs.access import Access, HUGGINGFACE
from seatrial.models.hubs.download import RemoteFile, download
from seatrial.models.hubs.transport import Client
import msgspec

def tell(name, done, total):
    if done >= 1048576:
        os.kill(os.getpid(), 9)

file = msgspec.json.decode(sys.argv[1], type=RemoteFile)
download(Client(Access()), HUGGINGFACE, file, Path(sys.argv[2]), tell)
"""


def test_a_process_that_is_killed_leaves_what_it_has(
    hub: Any,
    fetch: Callable[..., list[int]],
    remote: RemoteFile,
    tmp_path: Path,
    weighty: bytes,
) -> None:
    text = msgspec.json.encode(remote).decode()
    done = subprocess.run([sys.executable, "-c", KILLED, text, str(tmp_path / "file")], check=False)
    assert done.returncode == -9
    have = (tmp_path / "file.part").stat().st_size
    assert have >= 1_048_576
    hub.seen.clear()
    fetch()
    assert ranges(hub) == [f"bytes={have}-"]
    assert (tmp_path / "file").read_bytes() == weighty
