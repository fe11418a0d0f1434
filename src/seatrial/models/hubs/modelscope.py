"""ModelScope's routes, as modelscope-hub 0.5 speaks them: OpenAPI to search, /api/v1 for files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import urlencode

import msgspec

from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import Hub
from seatrial.models.hubs.compatible import judge
from seatrial.models.hubs.download import RemoteFile
from seatrial.models.hubs.listing import UNKNOWN_LICENCE, Listing, Query, Snapshot, nearest
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.transport import Client

PAGE = 50  # the most that the hub gives
LAST = 3000  # page number x page size
LOOKED_AT = 50  # models of a search whose files are looked at, some at a time
THREADS = 8
SORTS = {"downloads": "downloads", "likes": "likes", "trending": "default"}
TASKS = {"object-detection": "image-object-detection"}
DEFAULT_REVISION = "master"


class _Model(msgspec.Struct, frozen=True):
    id: str = ""
    downloads: int = 0
    likes: int = 0
    license: str | None = ""
    file_size: int | None = None
    last_modified: str | int | None = ""
    gated: bool | None = False
    tags: list[str] | None = None


class _Page(msgspec.Struct, frozen=True):
    models: list[_Model] | None = None
    total_count: int = 0


class _Found(msgspec.Struct, frozen=True):
    success: bool = True
    message: str = ""
    data: _Page = _Page()


class _Described(msgspec.Struct, frozen=True):
    success: bool = True
    data: _Model = _Model()


class _File(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    size: int = 0
    sha256: str | None = ""
    type: str = "blob"


class _Commit(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = ""


class _Tree(msgspec.Struct, frozen=True, rename="pascal"):
    files: list[_File] | None = None
    latest_committer: _Commit | None = None


class _Files(msgspec.Struct, frozen=True, rename="pascal"):
    code: int = 200
    message: str = ""
    data: _Tree | None = None


class _Config(msgspec.Struct, frozen=True):
    model_type: str = ""


class ModelScope:
    """Search and listing of the ModelScope hub.

    Args:
        client: Sends the requests.
        hub: To ask.
    """

    def __init__(self, client: Client, hub: Hub) -> None:
        self.client = client
        self.hub = hub

    def search(self, query: Query) -> list[Listing]:
        """Models that fit, best first; ``trending`` is the hub's own default ranking.

        Raises:
            SourceUnavailable: The hub cannot be asked.
        """
        found = [_listing(model) for model in islice(self._models(query), query.limit)]
        looked_at, rest = found[:LOOKED_AT], found[LOOKED_AT:]
        with ThreadPoolExecutor(THREADS) as pool:
            return [*pool.map(self._look, looked_at), *rest]

    def snapshot(self, reference: Reference) -> Snapshot:
        """Files of a model at the commit that its revision stands for.

        Raises:
            InvalidInput: There is no such model or revision; the hint names the nearest.
            SourceUnavailable: The hub cannot be asked, or keeps the model to some.
        """
        revision = reference.revision or DEFAULT_REVISION
        params = [("Revision", revision), ("Recursive", "True")]
        try:
            path = f"/openapi/v1/models/{reference.repo}"
            described, _ = self.client.get_json(self.hub, path, _Described)
            path = f"/api/v1/models/{reference.repo}/repo/files"
            answer, _ = self.client.get_json(self.hub, path, _Files, params)
        except InvalidInput as error:
            raise self._missing(reference) from error
        if answer.code != 200 or answer.data is None:
            raise SourceUnavailable(
                f"{self.hub.title} does not list {reference.repo}: {answer.message}",
                hint=f"try again later; another address is set by {self.hub.mirror_setting}",
            )
        tree = answer.data
        # Without a commit in the answer the branch is all that can be recorded.
        latest = tree.latest_committer.id if tree.latest_committer else ""
        commit = reference.revision if reference.pinned else latest or revision
        return Snapshot(
            "modelscope",
            reference.repo,
            commit,
            described.data.license or UNKNOWN_LICENCE,
            tuple(
                self._file(reference.repo, commit, file)
                for file in tree.files or []
                if file.type == "blob"
            ),
        )

    def _look(self, listing: Listing) -> Listing:
        """Judge a model by its files, which the search does not tell; as it was if that fails."""
        hasty = Client(msgspec.structs.replace(self.client.access, attempts=1))
        base = f"/api/v1/models/{listing.name}/repo"
        params = [("Revision", DEFAULT_REVISION)]
        with suppress(SeatrialError):
            answer, _ = hasty.get_json(
                self.hub, f"{base}/files", _Files, [*params, ("Recursive", "True")]
            )
            files = [file.path for file in (answer.data and answer.data.files) or []]
            config = _Config()
            if "config.json" in files:
                asked = [*params, ("FilePath", "config.json")]
                config, _ = hasty.get_json(self.hub, base, _Config, asked)
            verdict = judge(config.model_type, listing.tags, files)
            reference = Reference("modelscope", listing.name, verdict.file).place
            return msgspec.structs.replace(listing, verdict=verdict, reference=reference)
        return listing

    def _models(self, query: Query) -> Iterator[_Model]:
        size = min(query.limit, PAGE)
        params = [("sort", SORTS[query.sort]), ("page_size", str(size))]
        params += [("search", query.text)] if query.text else []
        params += [("filter.task", TASKS.get(query.task, query.task))] if query.task else []
        for number in range(1, LAST // size + 1):
            asked = [*params, ("page_number", str(number))]
            answer, _ = self.client.get_json(self.hub, "/openapi/v1/models", _Found, asked)
            if not answer.success:
                raise SourceUnavailable(f"{self.hub.title} does not search: {answer.message}")
            yield from answer.data.models or []
            if not answer.data.models or number * size >= answer.data.total_count:
                return

    def _file(self, repo: str, commit: str, file: _File) -> RemoteFile:
        query = urlencode({"Revision": commit, "FilePath": file.path})
        url = f"{self.hub.endpoint}/api/v1/models/{repo}/repo?{query}"
        return RemoteFile(file.path, url, file.size, sha256=(file.sha256 or "").lower())

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with suppress(SeatrialError):  # a better hint is not worth another error
            words = reference.repo.rpartition("/")[2]
            known = [m.id for m in islice(self._models(Query(words, "", limit=50)), 50)]
            if reference.repo in known:
                return InvalidInput(
                    f"{reference.repo} has no revision {reference.revision!r}",
                    hint=f"the default branch is {DEFAULT_REVISION}",
                )
        return InvalidInput(
            f"{self.hub.title} has no model {reference.repo!r}",
            hint=nearest("modelscope", reference.repo, known),
        )


def _listing(model: _Model) -> Listing:
    return Listing(
        reference=f"modelscope:{model.id}",
        name=model.id,
        downloads=model.downloads,
        likes=model.likes,
        licence=model.license or UNKNOWN_LICENCE,
        size_bytes=model.file_size or None,
        size_of="repository",
        updated=_iso(model.last_modified),
        gated=bool(model.gated),
        tags=tuple(model.tags or []),
        verdict=judge("", model.tags or [], None),
    )


def _iso(moment: str | int | None) -> str:
    """The hub writes times as text or as seconds."""
    if isinstance(moment, int):
        return datetime.fromtimestamp(moment, UTC).isoformat()
    return moment or ""
