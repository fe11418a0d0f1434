"""One file of a hub to one file here: resumed where it was cut off, and checked by its hash."""

from __future__ import annotations

import hashlib
import re
import urllib.error
from http.client import HTTPResponse
from io import FileIO
from pathlib import Path

import msgspec

from seatrial.errors import NotWritable, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import ByteProgress, Hub
from seatrial.models.hubs.transport import BROKEN, PASSING, Client, mirror, refusal, unreachable
from seatrial.system.files import NO_SPACE

CHUNK = 2**20
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")


class RemoteFile(msgspec.Struct, frozen=True):
    """A file as the hub lists it.

    Attributes:
        path: In the repository.
        url: Of its content.
        size_bytes: Of the content.
        sha256: In hex; large files have it.
        git_sha1: Of the content as a git blob, in hex; small files on Hugging Face have it.
    """

    path: str
    url: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def checkable(self) -> bool:
        """Whether the hub gives a hash."""
        return bool(self.sha256 or self.git_sha1)

    def matches(self, path: Path) -> bool:
        """Whether a file here has the size and the hash that the hub gives."""
        if path.stat().st_size != self.size_bytes:
            return False
        if self.sha256:
            return _digest(path, "sha256") == self.sha256
        if self.git_sha1:
            header = f"blob {self.size_bytes}\0".encode()
            return _digest(path, "sha1", header) == self.git_sha1
        return True


def download(
    client: Client, hub: Hub, file: RemoteFile, target: Path, on_bytes: ByteProgress
) -> None:
    """Fetch a file, unless it is there already.

    What has arrived is kept beside the target under ``.part`` and is where the next call goes on,
    also in another process.

    Args:
        client: Sends the requests.
        hub: That has the file.
        file: To fetch.
        target: Appears whole and checked, or not at all.
        on_bytes: Told of every MiB.

    Raises:
        SourceUnavailable: The hub is gone, cuts the body off, or serves other content.
        InvalidInput: The hub no longer has the file.
        NotWritable: The disk is full or the folder shut.
    """
    if target.is_file() and file.matches(target):
        on_bytes(file.path, file.size_bytes, file.size_bytes)
        return
    part = target.with_name(target.name + ".part")
    # A part of an earlier process may be damaged: that costs a second download, not a failure.
    for _ in range(2 if part.exists() else 1):
        _fill(client, hub, file, part, on_bytes)
        if file.matches(part):
            part.replace(target)
            return
        part.unlink()
    raise _other(hub, file)


def _fill(client: Client, hub: Hub, file: RemoteFile, part: Path, on_bytes: ByteProgress) -> None:
    """Request the missing rest until it is there; gives up when nothing more arrives."""
    failures = 0
    while (have := _size(part)) < file.size_bytes or not part.exists():
        try:
            _request(client, hub, file, part, on_bytes)
            error: Exception | None = None
        except urllib.error.HTTPError as answer:
            if answer.code == 416:  # the part is longer than what the hub has
                answer.close()
                part.unlink(missing_ok=True)
            elif answer.code not in PASSING:
                raise refusal(hub, answer) from answer
            error = answer
        except BROKEN as trouble:
            if have == 0 and _size(part) == 0 and failures == 0:
                raise unreachable(hub, trouble) from trouble
            error = trouble
        if _size(part) > have:
            failures = 0
            continue
        failures += 1
        if failures >= client.access.attempts or not client.wait(failures, error):
            raise _given_up(hub, file, part, error)


def _request(
    client: Client, hub: Hub, file: RemoteFile, part: Path, on_bytes: ByteProgress
) -> None:
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.send(hub, file.url, headers) as response:
        start = _start(response)
        if start not in (0, have):  # not what was asked for: begin anew
            part.unlink(missing_ok=True)
            return
        length = response.headers.get("Content-Length")
        if length is not None and start + int(length) != file.size_bytes:
            raise _other(hub, file)
        _write(response, part, start, file, on_bytes)


def _start(response: HTTPResponse) -> int:
    """Offset of the body. ModelScope sends a range with status 200; some mirrors ignore ranges."""
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    return int(found["start"]) if found else 0


def _write(
    response: HTTPResponse, part: Path, start: int, file: RemoteFile, on_bytes: ByteProgress
) -> None:
    done = start
    try:
        output = part.open("r+b" if start else "wb", buffering=0)
    except OSError as error:
        raise not_writable(part.parent, error) from error
    with output:
        output.seek(start)
        while chunk := response.read(CHUNK):
            _append(output, chunk, part.parent)
            done += len(chunk)
            on_bytes(file.path, done, file.size_bytes)
            if done > file.size_bytes:
                return


def _append(output: FileIO, chunk: bytes, folder: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[output.write(rest) :]
    except OSError as error:
        raise not_writable(folder, error) from error


def _other(hub: Hub, file: RemoteFile) -> SourceUnavailable:
    return SourceUnavailable(
        f"{file.path} from {hub.title} is not the file that it lists: its size or its hash differs",
        hint=f"do not use it; a proxy or the mirror may have changed it; {mirror(hub)}",
    )


def _given_up(hub: Hub, file: RemoteFile, part: Path, error: Exception | None) -> SeatrialError:
    if isinstance(error, urllib.error.HTTPError):
        return refusal(hub, error)
    if isinstance(error, urllib.error.URLError):
        return unreachable(hub, error)
    have = _size(part)
    return SourceUnavailable(
        f"{hub.title} cuts {file.path} off after {have} of {file.size_bytes} bytes"
        + (f": {error}" if error else ""),
        hint=f"the same command goes on from there; {mirror(hub)}",
    )


def not_writable(folder: Path, error: OSError) -> NotWritable:
    """The folder of downloads cannot be written."""
    full = error.errno in NO_SPACE
    return NotWritable(
        f"{folder} cannot be written: {error.strerror}",
        hint="free some space" if full else "name another folder (SEATRIAL_HOME)",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, algorithm: str, header: bytes = b"") -> str:
    digest = hashlib.new(algorithm, header, usedforsecurity=algorithm == "sha256")
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
