"""References to models on hubs: ``huggingface:facebook/detr-resnet-50@main``."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import get_args

import msgspec

from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Source

SOURCES: tuple[Source, ...] = get_args(Source)
SYNTAX = "huggingface:OWNER/NAME, with /PATH/FILE.onnx or @REVISION after it if need be"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Reference(msgspec.Struct, frozen=True):
    """A model on a hub.

    Attributes:
        source: The hub.
        repo: ``owner/name``; old models of Hugging Face have no owner.
        file: Path of one file in the repository; empty for all that transformers loads.
        revision: Branch, tag or commit; empty for the hub's default branch.
    """

    source: Source
    repo: str
    file: str = ""
    revision: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never moves."""
        return bool(_COMMIT.fullmatch(self.revision))

    @property
    def place(self) -> str:
        """The reference without its revision; the URI of an artifact begins with it."""
        return f"{self.source}:{self.repo}" + (f"/{self.file}" if self.file else "")

    def at(self, commit: str) -> str:
        """The reference with its revision resolved; `parse` reads it back."""
        return f"{self.place}@{commit}"

    def artifact_name(self) -> str:
        """Name of its artifact: the repository's, and the file's if there is one."""
        name = self.repo.rpartition("/")[2]
        if self.file:
            stem = PurePosixPath(self.file).stem
            name += f"-{'onnx' if stem == 'model' else stem}"
        return re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("._-")[:100]


def parse(text: str) -> Reference:
    """Read a reference as a person writes it.

    Raises:
        InvalidInput: No such hub, or the rest is not a repository.
    """
    source, _, rest = text.partition(":")
    if source not in SOURCES:
        raise InvalidInput(
            f"unknown source {source!r} in {text!r}",
            hint=f"known: {', '.join(SOURCES)}; for example huggingface:facebook/detr-resnet-50",
        )
    place, at, revision = rest.partition("@")
    parts = place.split("/")
    owned = len(parts) > 1 or source == "huggingface"
    plain = all(_PART.fullmatch(part) for part in parts[:2])
    inside = all(part not in ("", ".", "..") for part in parts[2:])
    if not (owned and plain and inside) or (at and not _REVISION.fullmatch(revision)):
        raise InvalidInput(f"{text!r} does not name a model on a hub", hint=f"write {SYNTAX}")
    return Reference(source, "/".join(parts[:2]), "/".join(parts[2:]), revision)
