"""The ModelScope hub, asked through `modelscope_hub`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

import seatrial
from seatrial.config import UNDECODABLE
from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.client import FileStream, HubClient, check_redirect
from seatrial.models.hubs.compatible import judge
from seatrial.models.hubs.listing import (
    UNKNOWN_LICENCE,
    Listing,
    Query,
    RemoteFile,
    Snapshot,
    nearest,
)
from seatrial.models.hubs.reference import Reference
from seatrial.models.hubs.refusals import Passing, mirror, refusal, unreachable
from seatrial.system.extras import require

PAGE = 50  # the most that the hub gives
LAST = 3000  # page number x page size
LISTED = 50  # models of a search whose files are listed, THREADS at a time
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


class ModelScope(HubClient):
    """The ModelScope hub or its sister site.

    Args:
        access: Address, credentials and patience.
    """

    def __init__(self, access: Access) -> None:
        super().__init__(access, access.modelscope)

    def search(self, query: Query) -> list[Listing]:
        """See `HubClient.search`; ``trending`` is the hub's own default ranking."""
        found = [_listing(model) for model in islice(self._models(query), query.limit)]
        listed, rest = found[:LISTED], found[LISTED:]
        with ThreadPoolExecutor(THREADS) as pool:
            return [*pool.map(self._look, listed), *rest]

    def snapshot(self, reference: Reference) -> Snapshot:
        """See `HubClient.snapshot`."""
        repo, revision = reference.repo, reference.revision or DEFAULT_REVISION
        try:
            described = self.ask(lambda: self._api.get_repo(repo, "model"))
            tree = self._tree(repo, revision)
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
    def open(self, snapshot: Snapshot, file: RemoteFile, start: int) -> Iterator[FileStream]:
        """See `HubClient.open`.

        The library's own downloads print bars and ask a third address, see decision 0007.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        self.check_online()
        with self.asking():
            try:
                response = self._api.legacy.download_stream(
                    snapshot.repo, "model", file.path, snapshot.commit, headers
                )
            except self._package.errors.APIError as error:
                if error.status_code != 416:
                    raise
                yield FileStream(0, 0, ())  # shorter than what the hub lists
                return
            with response:
                yield FileStream.of(response.headers, response.iter_content(CHUNK))

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
        # Its own attempts wait as long as the hub says, without a message; `retried` has a limit.
        api.openapi._max_retries = 1
        for part in (api.openapi, api.legacy):
            for session in (part._session, part._read_session):
                session.rebuild_auth = partial(self._on_redirect, session.rebuild_auth)
        return api

    def _on_redirect(
        self, rebuild_auth: Callable[[Any, Any], None], request: Any, response: Any
    ) -> None:
        """Check where an answer redirects to, and keep the token from other hosts.

        requests drops the header, and sends cookies, which hold the token too, to any host.

        Args:
            rebuild_auth: Method of the session that this one extends.
            request: Request that follows the redirect.
            response: The answer.
        """
        rebuild_auth(request, response)
        check_redirect(response.url, request.url)
        if urlsplit(request.url).hostname != urlsplit(self.hub.endpoint).hostname:
            for header in ("Authorization", "Cookie"):
                request.headers.pop(header, None)

    def _tree(self, repo: str, revision: str, *, attempts: int | None = None) -> _Tree:
        """Files of a repository, and the commit, which ``HubApi.list_repo_files`` leaves out."""

        def listed() -> _Tree:
            answer = self._api.openapi.request(
                "GET",
                url=f"{self.hub.endpoint}/api/v1/models/{repo}/repo/files",
                params={"Revision": revision, "Recursive": "True"},
                require_token=False,
                timeout=self.access.timeout_s,
            )
            return msgspec.convert(answer, _Tree)

        return self.ask(listed, attempts=attempts)

    def _look(self, listing: Listing) -> Listing:
        """Judge a model by its files, which the search does not list; as it was if that fails."""
        with contextlib.suppress(SeatrialError, Passing, *UNDECODABLE):
            tree = self._tree(listing.name, DEFAULT_REVISION, attempts=1)
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
        task = TASKS.get(query.task, query.task) or None
        for number in range(1, LAST // size + 1):
            page = self.ask(
                partial(
                    self._api.list_repos,
                    "model",
                    search=query.text or None,
                    sort=SORTS[query.sort],
                    page_number=number,
                    page_size=size,
                    task=task,
                )
            )
            yield from page.items
            if not page.items or number * size >= page.total_count:
                return

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """See `HubClient.asking`."""
        hub, errors = self.hub, self._package.errors
        http = require("requests", extra="hub", purpose=PURPOSE)  # the library's HTTP client
        try:
            yield
        except errors.APIError as error:
            if error.status_code is None:
                raise unreachable(hub, error) from error
            asked_s = getattr(error, "retry_after", None)
            after = "" if asked_s is None else str(int(asked_s))
            raise refusal(hub, error.status_code, error.message, retry_after=after) from error
        except (errors.HubError, http.RequestException) as error:
            if "redirects" in str(error):
                raise self.circular() from error
            raise unreachable(hub, error) from error

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with contextlib.suppress(SeatrialError):  # without a better hint then
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
