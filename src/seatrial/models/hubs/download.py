"""One file of a hub to one local file: resumed where it was cut off, and checked by its hash."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seatrial.errors import SourceUnavailable
from seatrial.models.hubs.client import HubClient
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.refusals import Passing, mirror, wait
from seatrial.progress import Progress
from seatrial.system.files import writing

REPORTED_BYTES = 2**20


def download(
    client: HubClient, snapshot: Snapshot, file: RemoteFile, target: Path, on_progress: Progress
) -> None:
    """Fetch a file, unless it is there already.

    What has arrived is kept beside the target under ``.part``; the next call goes on from there,
    also in another process.

    Args:
        client: The hub.
        snapshot: Repository and commit.
        file: One of its files.
        target: Appears whole and checked, or not at all.
        on_progress: Called with bytes about once a MiB.

    Raises:
        SourceUnavailable: The hub is gone, cuts the body off, or serves other content.
        InvalidInput: The hub no longer has the file.
        NotWritable: The disk is full or the folder shut.
    """
    if target.is_file() and file.matches(target):
        on_progress(file.path, file.size_bytes, file.size_bytes, unit="B")
        return
    part = target.with_name(target.name + ".part")
    # A part of an earlier process may be damaged: that costs a second download, not a failure.
    for _ in range(2 if part.exists() else 1):
        _fill(client, snapshot, file, part, on_progress)
        if file.matches(part):
            part.replace(target)
            return
        part.unlink()
    raise _changed(client, file)


def _fill(
    client: HubClient, snapshot: Snapshot, file: RemoteFile, part: Path, on_progress: Progress
) -> None:
    """Append to the part until it is whole; give up when nothing more arrives."""
    failures = 0
    while (have := _size(part)) < file.size_bytes or not part.exists():
        failure: Passing | None = None
        try:
            with client.open(snapshot, file, have) as body:
                if body.size_bytes is not None and body.size_bytes != file.size_bytes:
                    part.unlink(missing_ok=True)
                    raise _changed(client, file)
                if body.start in (0, have):
                    _write(body.chunks, part, body.start, file, on_progress)
                else:  # not what was asked for: begin anew
                    part.unlink(missing_ok=True)
        except Passing as passing:
            failure = passing
        if _size(part) > have:
            failures = 0
            continue
        failures += 1
        asked_s = failure.wait_s if failure else None
        if failures < client.access.attempts and wait(client.access, failures, asked_s):
            continue
        if failure and (failure.answered or have == 0):
            raise failure.error from failure
        raise SourceUnavailable(
            f"{client.hub.title} cuts {file.path} off after {have} of {file.size_bytes} bytes"
            + (f": {failure}" if failure else ""),
            hint=f"the same command goes on from there; {mirror(client.hub)}",
        ) from failure


def _write(
    chunks: Iterable[bytes], part: Path, start: int, file: RemoteFile, on_progress: Progress
) -> None:
    """Write the body at an offset, unbuffered: what has arrived stays when the process dies."""
    with writing(part.parent, setting="SEATRIAL_HOME"):
        output = part.open("r+b" if start else "wb", buffering=0)
    done, reported = start, start
    with output:
        output.seek(start)
        for chunk in chunks:
            rest = memoryview(chunk)
            with writing(part.parent, setting="SEATRIAL_HOME"):
                while rest:
                    rest = rest[output.write(rest) :]
            done += len(chunk)
            if done >= min(reported + REPORTED_BYTES, file.size_bytes):
                on_progress(file.path, done, file.size_bytes, unit="B")
                reported = done
            if done > file.size_bytes:
                return


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _changed(client: HubClient, file: RemoteFile) -> SourceUnavailable:
    return SourceUnavailable(
        f"{file.path} from {client.hub.title} is not the file that it lists: its size or its hash "
        "differs",
        hint=f"do not use it; a proxy or the mirror may have changed it; {mirror(client.hub)}",
    )
