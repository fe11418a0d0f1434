"""Facts that the hubs give about their models and files, in one form for both."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Source
from seatrial.models.hubs.compatible import Compatibility

Sort = Literal["downloads", "trending", "likes"]
MOST = 1000
UNKNOWN_LICENCE = "unknown"


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


def nearest(source: str, repo: str, known: Sequence[str]) -> str:
    """The hint for a name that a hub does not have: the nearest names it has, or a search.

    Args:
        source: ``huggingface`` or ``modelscope``.
        repo: The name, ``owner/name``.
        known: Names that a search for it found.
    """
    near = difflib.get_close_matches(repo, known, n=3, cutoff=0.3)
    if near:
        return f"did you mean {', '.join(f'{source}:{name}' for name in near)}?"
    return f"seatrial models search {repo.rpartition('/')[2]!r} --source {source}"
