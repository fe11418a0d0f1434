"""The journal of a trial: each thing that was made or measured, once, on a line of its own.

A line is on the disk before the trial goes on. A trial that was killed reads the lines back and
measures none of it again; a line that was cut off by the kill is dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from seatrial.errors import InvalidConfig, NotWritable
from seatrial.gate import Interval
from seatrial.load.rate_search import RateTrial
from seatrial.system.files import write_atomically, writing

JOURNAL = "trial.jsonl"
E = TypeVar("E", bound="Entry")


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The question of the trial: another one has another journal.

    Attributes:
        key: Digest of the contract, the models, the images and the machine.
    """

    key: str
    at_s: float = 0.0


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

    Args:
        folder: Folder of the trial's results.
        key: Digest of the question; see `Begun`.

    Attributes:
        entries: All lines in their order.
        resumed: Whether a trial of the same question had begun.

    Raises:
        InvalidConfig: The folder has the journal of another question, or one that cannot be read.
        NotWritable: The folder cannot be written to.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._file = folder / JOURNAL
        self.entries = _read(self._file)
        self.resumed = bool(self.entries)
        if not self.entries:
            self.add(Begun(key))
            return
        begun = self.entries[0]
        if not isinstance(begun, Begun) or begun.key != key:
            raise InvalidConfig(
                f"{self._file} is the journal of another trial: contract, models, images or "
                "machine differ",
                hint="name another folder (--output), or remove that one",
            )
        # Without the line that a kill has cut off.
        whole = b"".join(msgspec.json.encode(entry) + b"\n" for entry in self.entries)
        with writing(folder):
            write_atomically(self._file, whole)

    @property
    def spent_s(self) -> float:
        """Time that the trial had taken when the last line was written, seconds."""
        return self.entries[-1].at_s

    def add(self, entry: Entry) -> None:
        """Write a line; it is on the disk when this returns."""
        try:
            with self._file.open("ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NotWritable(f"{self._file} cannot be written: {error.strerror}") from error
        self.entries.append(entry)

    def of(self, kind: type[E], key: str) -> list[E]:
        """The lines of a kind and a key, in their order."""
        return [one for one in self.entries if isinstance(one, kind) and one.key == key]

    def one(self, kind: type[E], key: str) -> E | None:
        """The last line of a kind and a key; None without one."""
        found = self.of(kind, key)
        return found[-1] if found else None


def _read(file: Path) -> list[Entry]:
    """The lines of a journal; the last one may be cut off."""
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidConfig(f"{file} cannot be read: {error.strerror}") from error
    entries: list[Entry] = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is cut off
        try:
            entries.append(_LINE.decode(line))
        except msgspec.DecodeError as error:
            raise InvalidConfig(
                f"{file}, line {number}: {error}",
                hint="it was changed by hand, or written by another version: name another folder",
            ) from error
    return entries
