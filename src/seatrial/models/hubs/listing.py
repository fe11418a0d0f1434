"""What the hubs say of their models, in one form for both."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal

import msgspec

from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Source
from seatrial.models.hubs.compatible import Compatibility
from seatrial.models.hubs.download import RemoteFile

Sort = Literal["downloads", "trending", "likes"]
MOST = 1000
UNKNOWN_LICENCE = "unknown"


class Query(msgspec.Struct, frozen=True):
    """A search.

    Attributes:
        text: Words in a model's name; empty for all.
        task: As Hugging Face calls it, for example ``object-detection``; empty for all.
        sort: Highest first.
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
        downloads: As the hub counts them: the last 30 days on Hugging Face, all on ModelScope.
        likes: As the hub counts them.
        licence: Identifier, or ``"unknown"``.
        size_bytes: None where the hub does not say.
        size_of: What ``size_bytes`` counts: the weights, or all files of the repository.
        updated: ISO 8601, UTC; empty where the hub does not say.
        gated: Only for those who accepted its terms.
        tags: As the hub has them, the library's name among them.
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


class Snapshot(msgspec.Struct, frozen=True):
    """The content of a repository at one commit.

    Attributes:
        commit: That the revision stood for when it was asked.
        licence: Identifier, or ``"unknown"``.
        files: All of them.
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
        """Paths that end so."""
        return [file.path for file in self.files if file.path.endswith(suffix)]


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
