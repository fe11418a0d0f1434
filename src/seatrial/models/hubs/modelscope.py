"""The ModelScope hub, asked through `modelscope_hub`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import seatrial
from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.compatible import judge
from seatrial.models.hubs.listing import (
    UNKNOWN_LICENCE,
    Body,
    Listing,
    Query,
    RemoteFile,
    Snapshot,
    nearest,
)
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.refusals import (
    Passing,
    check_online,
    circular,
    mirror,
    no_api,
    refusal,
    retried,
    unencrypted,
    unreachable,
)
from seatrial.system.extras import require

T = TypeVar("T")
PAGE = 50  # the most that the hub gives
LAST = 3000  # page number x page size
LOOKED_AT = 50  # models of a search whose files are looked at, some at a time
THREADS = 8
CHUNK = 2**16
SORTS = {"downloads": "downloads", "likes": "likes", "trending": "default"}
TASKS = {"object-detection": "image-object-detection"}
DEFAULT_REVISION = "master"
PURPOSE = "models on ModelScope"


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


class _Config(msgspec.Struct, frozen=True):
    model_type: str = ""


class ModelScope:
    """Search, listing and files of the ModelScope hub.

    Args:
        access: Address, credentials and patience.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.hub = access.modelscope

    def search(self, query: Query) -> list[Listing]:
        """See `HubClient.search`; ``trending`` is the hub's own default ranking."""
        found = [_listing(model) for model in islice(self._models(query), query.limit)]
        looked_at, rest = found[:LOOKED_AT], found[LOOKED_AT:]
        with ThreadPoolExecutor(THREADS) as pool:
            return [*pool.map(self._look, looked_at), *rest]

    def snapshot(self, reference: Reference) -> Snapshot:
        """See `HubClient.snapshot`."""
        repo, revision = reference.repo, reference.revision or DEFAULT_REVISION
        try:
            described = self._ask(self.access, lambda: self._api.get_repo(repo, "model"))
            tree = self._tree(self.access, repo, revision)
        except InvalidInput as error:
            raise self._missing(reference) from error
        if tree.files is None:
            raise SourceUnavailable(
                f"{self.hub.title} does not list the files of {repo}",
                hint=f"try again later; {mirror(self.hub)}",
            )
        # Without a commit in the answer the branch is all that can be recorded.
        latest = tree.latest_committer.id if tree.latest_committer else ""
        return Snapshot(
            source="modelscope",
            repo=repo,
            commit=reference.revision if reference.pinned else latest or revision,
            licence=described.license or UNKNOWN_LICENCE,
            files=tuple(
                RemoteFile(file.path, file.size, sha256=(file.sha256 or "").lower())
                for file in tree.files
                if file.type == "blob"
            ),
        )

    @contextlib.contextmanager
    def open(self, snapshot: Snapshot, file: RemoteFile, start: int) -> Iterator[Body]:
        """See `HubClient.open`.

        The library's own downloads print bars and ask a third address, see decision 0007.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._asking():
            try:
                response = self._api.legacy.download_stream(
                    snapshot.repo, "model", file.path, snapshot.commit, headers
                )
            except self._package.errors.APIError as error:
                if error.status_code != 416:
                    raise
                yield Body(0, 0, ())  # shorter than what the hub lists
                return
            with response:
                if self.hub.endpoint.lower().startswith("https:") and not response.url.startswith(
                    "https:"
                ):
                    raise unencrypted(self.hub, response.url)
                yield Body.of(response.headers, response.iter_content(CHUNK))

    @cached_property
    def _package(self) -> Any:
        return require("modelscope_hub", extra="hub", purpose=PURPOSE)

    @cached_property
    def _api(self) -> Any:
        nowhere = Path(os.devnull)  # nothing is kept: no cache, no credentials, no session number
        config = self._package.HubConfig(
            endpoint=self.hub.endpoint,
            token=self.hub.token,
            config_dir=nowhere,
            cache_dir=nowhere,
        )
        api = self._package.HubApi(config, user_agent={"seatrial": seatrial.__version__})
        # Its own attempts wait for as long as the hub asks, without a word; `retried` has a limit.
        api.openapi._max_retries = 1
        return api

    def _ask(self, access: Access, call: Callable[[], T]) -> T:
        def ask() -> T:
            with self._asking():
                try:
                    return call()
                except self._package.HubError:  # some are ValueErrors too
                    raise
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise no_api(self.hub, error) from error

        return retried(access, ask)

    def _tree(self, access: Access, repo: str, revision: str) -> _Tree:
        """Files of a repository, and the commit, which ``HubApi.list_repo_files`` leaves out."""
        return self._ask(
            access,
            lambda: msgspec.convert(
                self._api.openapi.request(
                    "GET",
                    url=f"{self.hub.endpoint}/api/v1/models/{repo}/repo/files",
                    params={"Revision": revision, "Recursive": "True"},
                    require_token=False,
                    timeout=access.timeout_s,
                ),
                _Tree,
            ),
        )

    def _look(self, listing: Listing) -> Listing:
        """Judge a model by its files, which the search does not tell; as it was if that fails."""
        hasty = msgspec.structs.replace(self.access, attempts=1)
        with contextlib.suppress(SeatrialError, Passing, msgspec.DecodeError):
            tree = self._tree(hasty, listing.name, DEFAULT_REVISION)
            files = [file.path for file in tree.files or []]
            config = _Config()
            if "config.json" in files:
                snapshot = Snapshot("modelscope", listing.name, DEFAULT_REVISION, "", ())
                with self.open(snapshot, RemoteFile("config.json", 0), 0) as body:
                    config = msgspec.json.decode(b"".join(body.chunks), type=_Config)
            verdict = judge(config.model_type, listing.tags, files)
            reference = Reference("modelscope", listing.name, verdict.file).place
            return msgspec.structs.replace(listing, verdict=verdict, reference=reference)
        return listing

    def _models(self, query: Query) -> Iterator[Any]:
        size = min(query.limit, PAGE)
        for number in range(1, LAST // size + 1):
            page = self._ask(
                self.access,
                lambda number=number: self._api.list_repos(  # type: ignore[misc]
                    "model",
                    search=query.text or None,
                    sort=SORTS[query.sort],
                    page_number=number,
                    page_size=size,
                    task=TASKS.get(query.task, query.task) or None,
                ),
            )
            yield from page.items
            if not page.items or number * size >= page.total_count:
                return

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Map what the library and its HTTP client raise.

        Raises:
            SeatrialError: The hub refuses, or a setting forbids to ask it.
            Passing: It does not answer, or fails for a passing reason.
        """
        check_online(self.hub)
        hub, errors = self.hub, self._package.errors
        http = require("requests", extra="hub", purpose=PURPOSE)  # the library's HTTP client
        try:
            yield
        except errors.APIError as error:
            if error.status_code is None:
                raise unreachable(hub, error) from error
            after = getattr(error, "retry_after", None)
            raise refusal(
                hub,
                error.status_code,
                error.message,
                retry_after="" if after is None else str(int(after)),
            ) from error
        except http.TooManyRedirects as error:
            raise circular(hub) from error
        except (errors.HubError, http.RequestException) as error:
            if "redirects" in str(error):
                raise circular(hub) from error
            raise unreachable(hub, error) from error

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with contextlib.suppress(SeatrialError):  # a better hint is not worth another error
            words = reference.repo.rpartition("/")[2]
            known = [m.repo_id for m in islice(self._models(Query(words, "", limit=50)), 50)]
            if reference.repo in known:
                return InvalidInput(
                    f"{reference.repo} has no revision {reference.revision!r}",
                    hint=f"the default branch is {DEFAULT_REVISION}",
                )
        return InvalidInput(
            f"{self.hub.title} has no model {reference.repo!r}",
            hint=nearest("modelscope", reference.repo, known),
        )


def _listing(model: Any) -> Listing:
    return Listing(
        reference=f"modelscope:{model.repo_id}",
        name=model.repo_id,
        downloads=model.downloads or 0,
        likes=model.likes or 0,
        licence=model.license or UNKNOWN_LICENCE,
        size_bytes=model.file_size or None,
        size_of="repository",
        updated=_iso(model.last_modified),
        gated=bool(model.gated),
        tags=tuple(model.tags or []),
        verdict=judge("", model.tags or [], None),
    )


def _iso(moment: datetime | str | int | None) -> str:
    """The hub writes times as text or as seconds."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.isoformat() if isinstance(moment, datetime) else moment or ""
