"""The Hugging Face hub, asked through `huggingface_hub`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

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
    check_online,
    circular,
    forbidden,
    no_api,
    refusal,
    retried,
    unencrypted,
    unreachable,
)
from seatrial.system.extras import require

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
PURPOSE = "models on Hugging Face"
_BITS = re.compile(r"\d+")


class HuggingFace:
    """Search, listing and files of the Hugging Face hub or a mirror of it.

    Args:
        access: Address, credentials and patience.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.hub = access.huggingface

    def search(self, query: Query) -> list[Listing]:
        """See `HubClient.search`."""
        return [_listing(model) for model in islice(self._models(query), query.limit)]

    def snapshot(self, reference: Reference) -> Snapshot:
        """See `HubClient.snapshot`."""

        def ask() -> Any:
            with self._asking(), self._reading():
                return self._api.model_info(
                    reference.repo,
                    revision=reference.revision or "main",
                    files_metadata=True,
                    timeout=self.access.timeout_s,
                )

        try:
            model = retried(self.access, ask)
        except InvalidInput as error:
            raise self._missing(reference) from error
        files = tuple(
            RemoteFile(file.rfilename, file.lfs.size, sha256=file.lfs.sha256)
            if file.lfs
            else RemoteFile(file.rfilename, file.size or 0, git_sha1=file.blob_id or "")
            for file in model.siblings or []
        )
        commit = model.sha or reference.revision or "main"
        return Snapshot("huggingface", reference.repo, commit, _licence(model), files)

    @contextlib.contextmanager
    def open(self, snapshot: Snapshot, file: RemoteFile, start: int) -> Iterator[Body]:
        """See `HubClient.open`.

        The library's own downloads begin anew in each process, see decision 0007.
        """
        package = self._package
        url = package.hf_hub_url(
            snapshot.repo, file.path, revision=snapshot.commit, endpoint=self.hub.endpoint
        )
        headers = self._headers | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with (
            self._asking(),
            package.utils.get_session().stream(
                "GET", url, headers=headers, timeout=self.access.timeout_s
            ) as response,
        ):
            if response.status_code == 416:  # shorter than what the hub lists
                yield Body(0, 0, ())
                return
            self._check(response)
            yield Body.of(response.headers, response.iter_raw())

    @cached_property
    def _package(self) -> Any:
        package = require("huggingface_hub", extra="hub", purpose=PURPOSE)
        for part in ("constants", "errors", "utils"):
            require(f"huggingface_hub.{part}", extra="hub", purpose=PURPOSE)
        # Both are settings of the process: the library takes no argument for them.
        package.constants.HF_HUB_DISABLE_TELEMETRY = True
        package.utils.logging.set_verbosity_error()
        return package

    @cached_property
    def _api(self) -> Any:
        return self._package.HfApi(
            endpoint=self.hub.endpoint,
            token=self.hub.token or False,  # False: nor what is saved in the home folder
            library_name="seatrial",
            library_version=seatrial.__version__,
        )

    @cached_property
    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = self._package.utils.build_hf_headers(
            token=self.hub.token or False,
            library_name="seatrial",
            library_version=seatrial.__version__,
        )
        return headers

    def _models(self, query: Query) -> Iterator[Any]:
        """The pages of a search.

        ``HfApi.list_models`` follows the next page to huggingface.co, token included, where a
        mirror hands on the hub's own address; here the mirror is asked again.
        """
        package = self._package
        params: dict[str, Any] | None = {
            "expand": list(EXPAND),
            "sort": SORTS[query.sort],
            "limit": min(query.limit, PAGE),
            **({"search": query.text} if query.text else {}),
            **({"pipeline_tag": query.task} if query.task else {}),
        }
        url = f"{self.hub.endpoint}/api/models"

        def ask() -> tuple[list[Any], str]:
            with self._asking():
                response = package.utils.get_session().get(
                    url, params=params, headers=self._headers, timeout=self.access.timeout_s
                )
                self._check(response)
                with self._reading():
                    page = [package.ModelInfo(**model) for model in response.json()]
                return page, response.links.get("next", {}).get("url", "")

        while url:
            page, following = retried(self.access, ask)
            yield from page
            following = package.utils.fix_hf_endpoint_in_url(following, self.hub.endpoint)
            url = following if page and following.startswith(f"{self.hub.endpoint}/") else ""
            params = None  # they are in the address of the next page

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Map what the library and its HTTP client raise.

        Raises:
            SeatrialError: The hub refuses, or a setting forbids to ask it.
            Passing: It does not answer, or fails for a passing reason.
        """
        check_online(self.hub)
        hub, errors = self.hub, self._package.errors
        http = require("httpx2", extra="hub", purpose=PURPOSE)  # the library's HTTP client
        try:
            yield
        except errors.HFValidationError as error:
            raise InvalidInput(f"{hub.title} knows no such name: {error}") from error
        except errors.GatedRepoError as error:
            status, said = error.response.status_code, _said(error.response)
            raise forbidden(hub, status, said, gated=True) from error
        except (
            errors.RepositoryNotFoundError,  # 401 too: strangers are not told what is private
            errors.RevisionNotFoundError,
            errors.EntryNotFoundError,
        ) as error:
            raise refusal(hub, 404, _said(error.response)) from error
        except errors.HfHubHTTPError as error:
            answer = error.response
            after = answer.headers.get("Retry-After", "")
            raise refusal(hub, answer.status_code, _said(answer), retry_after=after) from error
        except errors.OfflineModeIsEnabled as error:
            raise SourceUnavailable(
                f"{hub.title} is not asked: HF_HUB_OFFLINE is set",
                hint="unset HF_HUB_OFFLINE to go online",
            ) from error
        except http.TooManyRedirects as error:
            raise circular(hub) from error
        except (http.HTTPError, http.InvalidURL, http.StreamError) as error:
            raise unreachable(hub, error) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Map what the library raises where an answer is not the API's."""
        try:
            yield
        except (AttributeError, KeyError, TypeError) as error:
            raise no_api(self.hub, error) from error
        except ValueError as error:
            if isinstance(error, self._package.errors.HFValidationError):
                raise
            raise no_api(self.hub, error) from error

    def _check(self, response: Any) -> None:
        """Raise for an answer that is a refusal, and for one that came without encryption."""
        if self.hub.endpoint.lower().startswith("https:") and response.url.scheme != "https":
            raise unencrypted(self.hub, str(response.url))
        self._package.utils.hf_raise_for_status(response)

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with contextlib.suppress(SeatrialError):  # a better hint is not worth another error
            if reference.revision:

                def ask() -> Any:
                    with self._asking(), self._reading():
                        return self._api.list_repo_refs(reference.repo)

                refs = retried(self.access, ask)
                names = [ref.name for ref in (*refs.branches, *refs.tags)]
                return InvalidInput(
                    f"{reference.repo} has no revision {reference.revision!r}",
                    hint=f"it has: {', '.join(names)}",
                )
        with contextlib.suppress(SeatrialError):
            words = reference.repo.rpartition("/")[2]
            known = [m.id for m in islice(self._models(Query(words, "", limit=50)), 50)]
        return InvalidInput(
            f"{self.hub.title} has no model {reference.repo!r}, or keeps it private",
            hint=nearest("huggingface", reference.repo, known),
        )


def _said(response: Any) -> str:
    """The hub's own words for a refusal."""
    return str(response.headers.get("X-Error-Message") or response.reason_phrase)


def _listing(model: Any) -> Listing:
    files = None if model.siblings is None else [file.rfilename for file in model.siblings]
    tags = (*(model.tags or ()), *filter(None, [model.library_name]))
    verdict = judge(str((model.config or {}).get("model_type", "")), tags, files)
    return Listing(
        reference=Reference("huggingface", model.id, verdict.file).place,
        name=model.id,
        downloads=model.downloads or 0,
        likes=model.likes or 0,
        licence=_licence(model),
        size_bytes=_weights_bytes(model.safetensors),
        size_of="weights",
        updated=model.last_modified.isoformat() if model.last_modified else "",
        gated=bool(model.gated),
        tags=tags,
        verdict=verdict,
    )


def _weights_bytes(weights: Any) -> int | None:
    """Bytes of the parameters, from the hub's count of them by type: F32, BF16, I8, ..."""
    if weights is None or not weights.parameters:
        return None
    bits: int = sum(
        count * int(found[0]) if (found := _BITS.search(kind)) else 8 * count
        for kind, count in weights.parameters.items()
    )
    return bits // 8


def _licence(model: Any) -> str:
    card = model.card_data.to_dict() if model.card_data else {}
    stated = card.get("license")
    if isinstance(stated, list):
        stated = " AND ".join(map(str, stated))
    if stated == "other" and card.get("license_name"):
        stated = card["license_name"]
    if stated:
        return str(stated)
    tagged = (tag for tag in model.tags or () if tag.startswith("license:"))
    return next(tagged, f"license:{UNKNOWN_LICENCE}").removeprefix("license:")
