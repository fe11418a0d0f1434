"""The Hugging Face hub's routes, as huggingface_hub 2.4 speaks them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any
from urllib.parse import quote

import msgspec

from seatrial.errors import InvalidInput, SeatrialError
from seatrial.models.hubs.access import Hub
from seatrial.models.hubs.compatible import judge
from seatrial.models.hubs.download import RemoteFile
from seatrial.models.hubs.listing import UNKNOWN_LICENCE, Listing, Query, Snapshot, nearest
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.transport import Client

PAGE = 100
SORTS = {"downloads": "downloads", "trending": "trendingScore", "likes": "likes"}
EXPAND = (
    "config",
    "downloads",
    "gated",
    "lastModified",
    "library_name",
    "likes",
    "safetensors",
    "siblings",
    "tags",
)
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_BITS = re.compile(r"\d+")


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str
    size: int


class _Sibling(msgspec.Struct, frozen=True, rename={"path": "rfilename", "blob_id": "blobId"}):
    path: str
    size: int | None = None
    blob_id: str = ""
    lfs: _Lfs | None = None


class _Safetensors(msgspec.Struct, frozen=True):
    parameters: dict[str, int] = {}


class _Model(
    msgspec.Struct, frozen=True, rename={"last_modified": "lastModified", "card": "cardData"}
):
    id: str
    sha: str = ""
    last_modified: str = ""
    downloads: int = 0
    likes: int = 0
    library_name: str | None = None
    gated: bool | str = False
    tags: list[str] = []
    config: dict[str, Any] | None = None
    card: dict[str, Any] | None = None
    safetensors: _Safetensors | None = None
    siblings: list[_Sibling] | None = None


class _Branch(msgspec.Struct, frozen=True):
    name: str


class _Refs(msgspec.Struct, frozen=True):
    branches: list[_Branch] = []
    tags: list[_Branch] = []


class HuggingFace:
    """Search and listing of the Hugging Face hub or a mirror of it.

    Args:
        client: Sends the requests.
        hub: To ask.
    """

    def __init__(self, client: Client, hub: Hub) -> None:
        self.client = client
        self.hub = hub

    def search(self, query: Query) -> list[Listing]:
        """Models that fit, best first.

        Raises:
            SourceUnavailable: The hub cannot be asked.
        """
        return [_listing(model) for model in islice(self._models(query), query.limit)]

    def snapshot(self, reference: Reference) -> Snapshot:
        """Files of a model at the commit that its revision stands for.

        Raises:
            InvalidInput: There is no such model or revision; the hint names the nearest.
            SourceUnavailable: The hub cannot be asked, or keeps the model to some.
        """
        revision = reference.revision or "main"
        path = f"/api/models/{reference.repo}/revision/{quote(revision, safe='')}"
        try:
            model, _ = self.client.get_json(self.hub, path, _Model, [("blobs", "true")])
        except InvalidInput as error:
            raise self._missing(reference) from error
        siblings = model.siblings or []
        return Snapshot(
            "huggingface",
            reference.repo,
            model.sha or revision,
            _licence(model),
            tuple(self._file(reference.repo, model.sha or revision, file) for file in siblings),
        )

    def _models(self, query: Query) -> Iterator[_Model]:
        params = [("expand", name) for name in EXPAND]
        params += [("sort", SORTS[query.sort]), ("limit", str(min(query.limit, PAGE)))]
        params += [("search", query.text)] if query.text else []
        params += [("pipeline_tag", query.task)] if query.task else []
        path: str = "/api/models"
        while path:
            page, headers = self.client.get_json(self.hub, path, list[_Model], params)
            yield from page
            following = _NEXT.search(headers.get("Link", ""))
            # A mirror may hand on the hub's own addresses: only path and query are followed.
            found = re.sub(r"^https?://[^/]+", "", following[1]) if following else ""
            path, params = found if page else "", []

    def _file(self, repo: str, commit: str, file: _Sibling) -> RemoteFile:
        url = f"{self.hub.endpoint}/{repo}/resolve/{commit}/{quote(file.path)}"
        if file.lfs is not None:
            return RemoteFile(file.path, url, file.lfs.size, sha256=file.lfs.sha256)
        return RemoteFile(file.path, url, file.size or 0, git_sha1=file.blob_id)

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with suppress(SeatrialError):  # a better hint is not worth another error
            if reference.revision:
                path = f"/api/models/{reference.repo}/refs"
                refs, _ = self.client.get_json(self.hub, path, _Refs)
                branches = [branch.name for branch in refs.branches + refs.tags]
                return InvalidInput(
                    f"{reference.repo} has no revision {reference.revision!r}",
                    hint=f"it has: {', '.join(branches)}",
                )
        with suppress(SeatrialError):
            words = reference.repo.rpartition("/")[2]
            known = [m.id for m in islice(self._models(Query(words, "", limit=50)), 50)]
        return InvalidInput(
            f"{self.hub.title} has no model {reference.repo!r}, or keeps it private",
            hint=nearest("huggingface", reference.repo, known),
        )


def _listing(model: _Model) -> Listing:
    files = None if model.siblings is None else [file.path for file in model.siblings]
    tags = (*model.tags, *filter(None, [model.library_name]))
    verdict = judge(str((model.config or {}).get("model_type", "")), tags, files)
    return Listing(
        reference=Reference("huggingface", model.id, verdict.file).place,
        name=model.id,
        downloads=model.downloads,
        likes=model.likes,
        licence=_licence(model),
        size_bytes=_weights_bytes(model.safetensors),
        size_of="weights",
        updated=model.last_modified,
        gated=bool(model.gated),
        tags=tags,
        verdict=verdict,
    )


def _weights_bytes(weights: _Safetensors | None) -> int | None:
    """Bytes of the parameters, from the hub's count of them by type: F32, BF16, I8, ..."""
    if weights is None or not weights.parameters:
        return None
    bits = sum(
        count * int(found[0]) if (found := _BITS.search(kind)) else 8 * count
        for kind, count in weights.parameters.items()
    )
    return bits // 8


def _licence(model: _Model) -> str:
    card = model.card or {}
    stated = card.get("license")
    if isinstance(stated, list):
        stated = " AND ".join(map(str, stated))
    if stated == "other" and card.get("license_name"):
        stated = card["license_name"]
    if stated:
        return str(stated)
    tagged = (tag for tag in model.tags if tag.startswith("license:"))
    return next(tagged, f"license:{UNKNOWN_LICENCE}").removeprefix("license:")
