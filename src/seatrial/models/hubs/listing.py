"""What the hubs tell about their models and files, in one form for both."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Access, Hub, Source
from seatrial.models.hubs.compatible import Compatibility
from seatrial.models.hubs.reference import Reference

Sort = Literal["downloads", "trending", "likes"]
MOST = 1000
UNKNOWN_LICENCE = "unknown"
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")


class Query(msgspec.Struct, frozen=True):
    """A search.

    Attributes:
        text: Words in a model's name; empty for all.
        task: Task in Hugging Face's words, for example ``object-detection``; empty for all.
        sort: Figure to sort by, highest first.
        limit: Most models to return.
    """

    text: str = ""
    task: str = "object-detection"
    sort: Sort = "downloads"
    limit: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST:
            raise InvalidInput(f"a search returns 1 to {MOST} models, not {self.limit}")


class Listing(msgspec.Struct, frozen=True):
    """One model of a search.

    Attributes:
        reference: What ``seatrial models pull`` takes.
        name: ``owner/name``.
        downloads: Downloads in the last 30 days on Hugging Face, in all on ModelScope.
        likes: Likes on the hub.
        licence: Identifier, or ``"unknown"``.
        size_bytes: Size of the weights or of the repository; None where the hub does not say.
        size_of: What ``size_bytes`` counts: the weights, or all files of the repository.
        updated: Time of the last change, ISO 8601, UTC; empty where the hub does not say.
        gated: Whether it is given only to those who accepted its terms.
        tags: The hub's tags, the library's name among them.
        verdict: Whether a family here can run it.
    """

    reference: str
    name: str
    downloads: int
    likes: int
    licence: str
    size_bytes: int | None
    size_of: Literal["weights", "repository"]
    updated: str
    gated: bool
    tags: tuple[str, ...]
    verdict: Compatibility


class RemoteFile(msgspec.Struct, frozen=True):
    """A file as the hub lists it.

    Attributes:
        path: Path in the repository.
        size_bytes: Size of the content.
        sha256: Hash in hex; empty where the hub lists none. Large files have one.
        git_sha1: Hash as a git blob, in hex; small files on Hugging Face have one.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def checkable(self) -> bool:
        """Whether the hub lists a hash."""
        return bool(self.sha256 or self.git_sha1)

    def matches(self, path: Path) -> bool:
        """Whether a local file has the size and the hash that the hub lists."""
        if path.stat().st_size != self.size_bytes:
            return False
        digest = hashlib.sha256()
        if not self.sha256:
            header = f"blob {self.size_bytes}\0".encode()
            digest = hashlib.sha1(header, usedforsecurity=False)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: digest).hexdigest()
        return found == (self.sha256 or self.git_sha1 or found)


class Snapshot(msgspec.Struct, frozen=True):
    """The content of a repository at one commit.

    Attributes:
        source: The hub.
        repo: ``owner/name``.
        commit: Commit that the revision stood for when the hub was asked.
        licence: Identifier, or ``"unknown"``.
        files: All files.
    """

    source: Source
    repo: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]

    def file(self, path: str) -> RemoteFile | None:
        """A file by its path, None if there is none."""
        return next((file for file in self.files if file.path == path), None)

    def paths(self, suffix: str) -> list[str]:
        """Paths with that ending."""
        return [file.path for file in self.files if file.path.endswith(suffix)]


class Body(msgspec.Struct, frozen=True):
    """Content of a file on its way.

    Attributes:
        start: Offset of the first byte; 0 where the server ignored the offset that was asked for.
        size_bytes: Size of the file as this answer announces it; None where it does not.
        chunks: The bytes from `start` on.
    """

    start: int
    size_bytes: int | None
    chunks: Iterable[bytes]

    @classmethod
    def of(cls, headers: Mapping[str, str], chunks: Iterable[bytes]) -> Body:
        """The body of an answer. ModelScope sends a range with status 200: only headers count."""
        found = _RANGE.match(headers.get("Content-Range", ""))
        start = int(found["start"]) if found else 0
        length = headers.get("Content-Length")
        return cls(start, None if length is None else start + int(length), chunks)


class HubClient(Protocol):
    """One hub, asked through its own library."""

    hub: Hub
    access: Access

    def search(self, query: Query) -> list[Listing]:
        """Models that fit, best first.

        Raises:
            SourceUnavailable: The hub cannot be asked.
            MissingExtra: Its library is not installed.
        """

    def snapshot(self, reference: Reference) -> Snapshot:
        """Files of a model at the commit that its revision stands for.

        Raises:
            InvalidInput: There is no such model or revision; the hint names the nearest.
            SourceUnavailable: The hub cannot be asked, or keeps the model to some.
            MissingExtra: Its library is not installed.
        """

    def open(
        self, snapshot: Snapshot, file: RemoteFile, start: int
    ) -> AbstractContextManager[Body]:
        """Begin to read a file at an offset.

        Raises:
            SeatrialError: The hub refuses.
            Passing: It fails for a passing reason, in the block too.
        """


def nearest(source: str, repo: str, known: Sequence[str]) -> str:
    """What to do about a name that a hub does not have: the nearest that it has, or a search.

    Args:
        source: ``huggingface`` or ``modelscope``.
        repo: The name, ``owner/name``.
        known: Names that a search for it found.
    """
    near = difflib.get_close_matches(repo, known, n=3, cutoff=0.3)
    if near:
        return f"did you mean {', '.join(f'{source}:{name}' for name in near)}?"
    return f"seatrial models search {repo.rpartition('/')[2]!r} --source {source}"
