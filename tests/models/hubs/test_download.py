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
from seatrial.models.hubs.client import HubClient
from seatrial.models.hubs.download import download
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.reference import Reference

PATH = "onnx/model.onnx"
HELD_BACK = 2**16  # bytes of a read that the HTTP client does not give out before it is full


@pytest.fixture
def client(client_of: Callable[[str], HubClient], source: str) -> HubClient:
    return client_of(source)


@pytest.fixture
def snapshot(client: HubClient, yolo: Any, source: Any) -> Snapshot:
    return client.snapshot(Reference(source, yolo.id))


@pytest.fixture
def remote(snapshot: Snapshot) -> RemoteFile:
    """The ONNX file as the hub lists it."""
    file = snapshot.file(PATH)
    assert file is not None
    return file


@pytest.fixture
def fetch(
    client: HubClient, snapshot: Snapshot, remote: RemoteFile, tmp_path: Path
) -> Callable[..., list[int]]:
    """Downloads the file to ``tmp_path / "file"`` and returns the counts of bytes it told."""

    def run(file: RemoteFile = remote, snapshot: Snapshot = snapshot) -> list[int]:
        told: list[int] = []

        def on_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
            assert (what, total, unit) == (file.path, file.size_bytes, "B")
            told.append(done)

        download(client, snapshot, file, tmp_path / "file", on_progress)
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
    first, second, third = [int(text.strip("bytes=-") or 0) for text in ranges(hub)]
    # At most what the HTTP client holds back is asked for again.
    assert first == 0
    assert 1_000_000 - HELD_BACK < second <= 1_000_000
    assert second + 500_000 - HELD_BACK < third <= second + 500_000
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
    have = (tmp_path / "file.part").stat().st_size
    assert 2_000_000 - HELD_BACK < have <= 2_000_000
    assert f"cuts {PATH} off after {have} of {len(weighty)} bytes" in refusal.value.message
    assert "the same command goes on from there" in refusal.value.hint
    assert "ENDPOINT" in refusal.value.hint
    assert not (tmp_path / "file").exists()
    hub.seen.clear()
    fetch()
    assert ranges(hub) == [f"bytes={have}-"]
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
    assert len(ranges(hub)) == 2
    assert ranges(hub)[1] != ""
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
    fetch: Callable[..., list[int]], hub: Any, yolo: Any, snapshot: Snapshot, tmp_path: Path
) -> None:
    commit = hub.push(yolo.id, {"empty.onnx": b""})
    sha256 = hashlib.sha256(b"").hexdigest()
    newer = msgspec.structs.replace(snapshot, commit=commit)
    fetch(RemoteFile("empty.onnx", 0, sha256=sha256), newer)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_that_the_hub_has_made_shorter(
    hub: Any,
    fetch: Callable[..., list[int]],
    remote: RemoteFile,
    tmp_path: Path,
    weighty: bytes,
) -> None:
    (tmp_path / "file.part").write_bytes(weighty)  # the answer to the rest is 416
    with pytest.raises(SourceUnavailable, match="is not the file that it lists"):
        fetch(msgspec.structs.replace(remote, size_bytes=len(weighty) + 5))
    assert len(hub.asked("/cdn/")) == 1
    assert not (tmp_path / "file.part").exists()


def test_a_file_that_is_gone(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault("/cdn/", status=404))
    with pytest.raises(InvalidInput, match="no such model, revision or file"):
        fetch()


def test_a_cdn_that_stumbles(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any], tmp_path: Path
) -> None:
    hub.faults += [fault("/cdn/", cut=1_000_000), fault("/cdn/", status=503, times=2)]
    fetch()
    assert (tmp_path / "file").is_file()


def test_a_hub_that_is_gone(hub: Any, fetch: Callable[..., list[int]], client: HubClient) -> None:
    hub.close()
    with pytest.raises(SourceUnavailable) as refusal:
        fetch()
    assert refusal.value.message.startswith(f"{client.hub.title} cannot be reached")


def test_a_cdn_that_refuses_for_good_is_quoted(
    hub: Any, fetch: Callable[..., list[int]], fault: Callable[..., Any], tmp_path: Path
) -> None:
    hub.faults += [fault("/cdn/", cut=1_000_000), fault("/cdn/", status=503, times=99)]
    with pytest.raises(SourceUnavailable, match="answered 503"):
        fetch()
    assert (tmp_path / "file.part").exists()
    assert len(hub.asked("/cdn/")) == 5  # the part, and four attempts without progress


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
import msgspec
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access
from seatrial.models.hubs.download import download
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.modelscope import ModelScope

def on_progress(what, done=0, total=0, *, unit=""):
    if done >= 1048576:
        os.kill(os.getpid(), 9)

url, target = sys.argv[1:3]
snapshot = msgspec.json.decode(sys.argv[3], type=Snapshot)
access = Access(
    msgspec.structs.replace(HUGGINGFACE, endpoint=url),
    msgspec.structs.replace(MODELSCOPE, endpoint=url),
)
client = (HuggingFace if snapshot.source == "huggingface" else ModelScope)(access)
download(client, snapshot, snapshot.file("onnx/model.onnx"), Path(target), on_progress)
"""


def test_a_process_that_is_killed_leaves_what_it_has(
    hub: Any,
    fetch: Callable[..., list[int]],
    snapshot: Snapshot,
    tmp_path: Path,
    weighty: bytes,
) -> None:
    arguments = [hub.url, str(tmp_path / "file"), msgspec.json.encode(snapshot).decode()]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -9
    have = (tmp_path / "file.part").stat().st_size
    assert have >= 1_048_576
    hub.seen.clear()
    fetch()
    assert ranges(hub) == [f"bytes={have}-"]
    assert (tmp_path / "file").read_bytes() == weighty
