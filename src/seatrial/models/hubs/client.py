"""Base of both hubs' clients: search, listing and files, through the hub's own library."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from seatrial.errors import SourceUnavailable, first_line
from seatrial.models.hubs.access import Access, Hub
from seatrial.models.hubs.listing import Listing, Query, RemoteFile, Snapshot
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.refusals import mirror, retried

T = TypeVar("T")
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")


class FileStream(msgspec.Struct, frozen=True):
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
    def of(cls, headers: Mapping[str, str], chunks: Iterable[bytes]) -> FileStream:
        """The body of an answer. ModelScope sends a range with status 200: only headers count."""
        found = _RANGE.match(headers.get("Content-Range", ""))
        start = int(found["start"]) if found else 0
        length = headers.get("Content-Length")
        return cls(start, None if length is None else start + int(length), chunks)


class HubClient(ABC):
    """One hub, asked through its own library, which is imported on the first request.

    Args:
        access: Addresses, credentials and patience.
        hub: The hub of them.
    """

    def __init__(self, access: Access, hub: Hub) -> None:
        self.access, self.hub = access, hub

    @abstractmethod
    def search(self, query: Query) -> list[Listing]:
        """Models that fit, best first.

        Raises:
            SourceUnavailable: The hub cannot be asked.
            MissingExtra: Its library is not installed.
        """

    @abstractmethod
    def snapshot(self, reference: Reference) -> Snapshot:
        """Files of a model at the commit that its revision stands for.

        Raises:
            InvalidInput: There is no such model or revision; the hint names the nearest.
            SourceUnavailable: The hub cannot be asked, or keeps the model to some.
            MissingExtra: Its library is not installed.
        """

    @abstractmethod
    def open(
        self, snapshot: Snapshot, file: RemoteFile, start: int
    ) -> AbstractContextManager[FileStream]:
        """Begin to read a file at an offset.

        Raises:
            SeatrialError: The hub refuses.
            Passing: It fails for a passing reason, in the block too.
        """

    @abstractmethod
    def asking(self) -> AbstractContextManager[None]:
        """Map what the library and its HTTP client raise in the block.

        Raises:
            SeatrialError: The hub refuses.
            Passing: It does not answer, or fails for a passing reason.
        """

    def ask(self, call: Callable[[], T], *, attempts: int | None = None) -> T:
        """Answer of a call of the library; asked again while it fails for a passing reason.

        Raises:
            SeatrialError: The hub refuses, does not answer, or answers what is not its API's.
        """

        def attempt() -> T:
            with self.asking():
                try:
                    return call()
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    if type(error).__module__.startswith(("huggingface_hub", "modelscope_hub")):
                        raise  # a refusal that is a ValueError too
                    raise SourceUnavailable(
                        f"{self.hub.title} at {self.hub.endpoint} answered something else than its "
                        f"API does: {first_line(error)}",
                        hint="the network may show a login page, or "
                        f"{self.hub.mirror_setting} names no mirror",
                    ) from error

        self.check_online()
        return retried(self.access, attempt, attempts)

    def check_online(self) -> None:
        """Refuse to ask the hub where a setting forbids the network.

        Raises:
            SourceUnavailable: A setting does.
        """
        if self.hub.offline_setting:
            raise SourceUnavailable(
                f"{self.hub.title} is not asked: {self.hub.offline_setting} is set",
                hint=f"unset {self.hub.offline_setting} to go online",
            )

    def circular(self) -> SourceUnavailable:
        """The error of redirects without an end."""
        return SourceUnavailable(
            f"{self.hub.title} at {self.hub.endpoint} redirects in circles", hint=mirror(self.hub)
        )


def check_redirect(origin: str, target: str) -> None:
    """Refuse a redirect from an encrypted address to one without encryption.

    Args:
        origin: Address that answered.
        target: Address that it redirects to.

    Raises:
        SourceUnavailable: The encryption would end.
    """
    if origin.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise SourceUnavailable(
            f"{urlsplit(origin).hostname} redirects to {target}, without encryption",
            hint="a proxy may be in between; do not use what it serves",
        )
