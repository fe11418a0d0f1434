"""The journal of a trial: each thing that was made or measured, once, on a line of its own.

A line is on the disk before the trial goes on. A trial that was killed reads the lines back and
measures none of it again; a line that was cut off by the kill is dropped. One trial at a time has
the journal: it is locked until the trial ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.gate import Interval
from seatrial.load.rate_search import RateTrial

JOURNAL = "trial.jsonl"
FIRST = b'{"type":"begun",'  # of every journal
E = TypeVar("E", bound="Entry")


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The question of the trial: another one has another journal.

    Attributes:
        key: Digest of the contract, the models, the images and the machine.
        parts: Name -> digest of each of these, to say which one differs; empty in journals of
            earlier versions.
    """

    key: str
    at_s: float = 0.0
    parts: dict[str, str] = {}


class MadeEntry(msgspec.Struct, frozen=True, tag="made"):
    """An artifact that was made, or why it was not.

    Attributes:
        key: Key of the variant.
        artifact: Name in the store; empty where it could not be made.
        digest: Its digest.
        reason: Why it could not be made.
        seconds: Time that it took.
        at_s: Time of the trial, seconds, at which the line was written.
    """

    key: str
    artifact: str
    digest: str = ""
    reason: str = ""
    seconds: float = 0.0
    at_s: float = 0.0


class ScoreEntry(msgspec.Struct, frozen=True, tag="accuracy"):
    """Accuracy on the labelled images.

    Attributes:
        key: Key of artifact, engine and precision.
        figures: ``ap``, ``ap50``, ``ar100`` -> value; None where no object is.
        intervals: The same names -> interval.
        drawn_ap: AP of each draw of the bootstrap, for the interval of a difference.
        flattered: Why the figures are better than on new images; empty where they are not.
        seconds: Time that it took.
        at_s: As in `MadeEntry`.
    """

    key: str
    figures: dict[str, float | None]
    intervals: dict[str, Interval]
    drawn_ap: tuple[float, ...] = ()
    flattered: str = ""
    seconds: float = 0.0
    at_s: float = 0.0


class RawEntry(msgspec.Struct, frozen=True, tag="raw"):
    """Speed of an engine in this process, without service, decoding and boxes.

    Attributes:
        key: Key of the arrangement.
        rate_hz: Images per second of all lanes together, median of the rounds.
        low_hz: Slowest round.
        high_hz: Fastest round.
        lone_ms: Time of one image alone, in the lane that a lone request gets; the least seen.
        reason: Why it could not be run; empty where it was.
        seconds: Time that it took.
        at_s: As in `MadeEntry`.
    """

    key: str
    rate_hz: float = 0.0
    low_hz: float = 0.0
    high_hz: float = 0.0
    lone_ms: float = 0.0
    reason: str = ""
    seconds: float = 0.0
    at_s: float = 0.0


class TrialEntry(msgspec.Struct, frozen=True, tag="trial"):
    """One rate for some time, on the service.

    Attributes:
        key: Key of the arrangement.
        trial: Counts of late requests.
        at_s: As in `MadeEntry`.
    """

    key: str
    trial: RateTrial
    at_s: float = 0.0


class TurnEntry(msgspec.Struct, frozen=True, tag="turn"):
    """A turn of a candidate in the race: its service was started, and ended.

    Attributes:
        key: Key of the arrangement.
        seconds: Time of the turn, with the start of the service.
        memory_bytes: Largest resident memory of the service; 0 where it is not known.
        reason: Why it could not be served; empty where it was.
        at_s: As in `MadeEntry`.
    """

    key: str
    seconds: float
    memory_bytes: int = 0
    reason: str = ""
    at_s: float = 0.0


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """A benchmark at the rate of the contract: its report lies beside the journal.

    Attributes:
        key: Key of the arrangement.
        file: Name of the report, JSON.
        at_s: As in `MadeEntry`.
    """

    key: str
    file: str
    at_s: float = 0.0


Entry = Begun | MadeEntry | ScoreEntry | RawEntry | TrialEntry | TurnEntry | Confirmed
_LINE = msgspec.json.Decoder(Entry)


class TrialJournal:
    """All that a trial has made and measured, in memory and in its folder.

    It is a context manager: the file is locked and open until the block ends.

    Args:
        folder: Folder of the trial's results.
        key: Digest of the question; see `Begun`.
        parts: See `Begun`.

    Attributes:
        entries: All lines in their order.
        resumed: Whether a trial of the same question had begun.

    Raises:
        InvalidConfig: The folder has the journal of another question, one that another process is
            writing, or one that cannot be read.
        NotWritable: The folder cannot be written to.
    """

    def __init__(self, folder: Path, key: str, parts: Mapping[str, str] | None = None) -> None:
        self._file = folder / JOURNAL
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise NotWritable(f"{self._file} cannot be written: {error.strerror}") from error
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self._torn = False
        try:
            self._lock()
            self.entries, self._length = _read(self._file)
            self.resumed = bool(self.entries)
            if self.resumed:
                self._check(key, parts or {})
            self._cut()
            if not self.resumed:
                self.add(Begun(key, parts=dict(parts or {})))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which unlocks it."""
        self._close()

    def _lock(self) -> None:
        """Take the journal for this process; where the file system has no locks, it is not taken.

        Raises:
            InvalidConfig: Another process has it.
        """
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InvalidConfig(
                    f"another trial is running in {self._file.parent}",
                    hint="wait until it has ended, or name another folder (--output)",
                ) from error

    def _check(self, key: str, parts: Mapping[str, str]) -> None:
        """Check that the journal is that of the question.

        Raises:
            InvalidConfig: It is that of another one.
        """
        begun = self.entries[0]
        if isinstance(begun, Begun) and begun.key == key:
            return
        before = begun.parts if isinstance(begun, Begun) else {}
        other = [name for name, digest in parts.items() if before and before.get(name) != digest]
        what = ", ".join(other) or "contract, models, images or machine"
        raise InvalidConfig(
            f"{self._file} is the journal of another trial; what differs: {what}",
            hint="name another folder (--output), or remove that one",
        )

    def _cut(self) -> None:
        """Drop what follows the last whole line: a kill or a full disk has cut it off."""
        os.ftruncate(self._descriptor, self._length)
        self._torn = False

    @property
    def spent_s(self) -> float:
        """Time that the trial had taken when the last line was written, seconds."""
        return self.entries[-1].at_s

    def add(self, entry: Entry) -> None:
        """Write a line; it is on the disk when this returns.

        Raises:
            NotWritable: It cannot be written; then no part of it is left in the file.
        """
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if self._torn:
                self._cut()
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            self._torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise NotWritable(f"{self._file} cannot be written: {error.strerror}") from error
        self._length += len(line)
        self.entries.append(entry)

    def of(self, kind: type[E], key: str) -> list[E]:
        """The lines of a kind and a key, in their order."""
        return [one for one in self.entries if isinstance(one, kind) and one.key == key]

    def one(self, kind: type[E], key: str) -> E | None:
        """The last line of a kind and a key; None without one."""
        found = self.of(kind, key)
        return found[-1] if found else None


def _read(file: Path) -> tuple[list[Entry], int]:
    """The whole lines of a journal, and their length in bytes; the last line may be cut off."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"{file} cannot be read: {error.strerror}") from error
    *lines, rest = data.split(b"\n")
    # Blocks that were not written before the power failed read as zeros.
    if not lines and not FIRST.startswith(rest[: len(FIRST)].rstrip(b"\0")):
        raise InvalidConfig(
            f"{file} was not written by a trial", hint="name another folder (--output)"
        )
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(_LINE.decode(line))
        except UNDECODABLE as error:
            raise InvalidConfig(
                f"{file}, line {number}: {error}",
                hint="it was changed by hand, or written by another version: name another folder",
            ) from error
    return entries, len(data) - len(rest)
