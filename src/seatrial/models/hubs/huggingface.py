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
from seatrial.models.hubs.refusals import forbidden, refusal, unreachable
from seatrial.system.extras import require

PAGE = 100
SORTS = {"downloads": "downloads", "trending": "trendingScore", "likes": "likes"}
EXPAND = ["config", "downloads", "gated", "lastModified", "library_name", "likes", "safetensors",
          "siblings", "tags"]  # fmt: skip
PURPOSE = "models on Hugging Face"
_BITS = re.compile(r"\d+")


class HuggingFace(HubClient):
    """The Hugging Face hub or a mirror of it.

    Args:
        access: Address, credentials and patience.
    """

    def __init__(self, access: Access) -> None:
        super().__init__(access, access.huggingface)

    def search(self, query: Query) -> list[Listing]:
        """See `HubClient.search`."""
        return [_listing(model) for model in islice(self._models(query), query.limit)]

    def snapshot(self, reference: Reference) -> Snapshot:
        """See `HubClient.snapshot`."""
        repo, revision = reference.repo, reference.revision or "main"
        try:
            model = self.ask(
                lambda: self._api.model_info(
                    repo, revision=revision, files_metadata=True, timeout=self.access.timeout_s
                )
            )
        except InvalidInput as error:
            raise self._missing(reference) from error
        files = tuple(
            RemoteFile(file.rfilename, file.lfs.size, sha256=file.lfs.sha256)
            if file.lfs
            else RemoteFile(file.rfilename, file.size or 0, git_sha1=file.blob_id or "")
            for file in model.siblings or []
        )
        return Snapshot("huggingface", repo, model.sha or revision, _licence(model), files)

    @contextlib.contextmanager
    def open(self, snapshot: Snapshot, file: RemoteFile, start: int) -> Iterator[FileStream]:
        """See `HubClient.open`.

        The library's own downloads begin anew in each process, see decision 0007.
        """
        self.check_online()
        package, timeout_s = self._package, self.access.timeout_s
        url = package.hf_hub_url(
            snapshot.repo, file.path, revision=snapshot.commit, endpoint=self.hub.endpoint
        )
        headers = self._headers | {"Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={start}-"} if start else {}
        session = package.utils.get_session()
        with (
            self.asking(),
            session.stream("GET", url, headers=headers, timeout=timeout_s) as response,
        ):
            if response.status_code == 416:  # shorter than what the hub lists
                yield FileStream(0, 0, ())
                return
            package.utils.hf_raise_for_status(response)
            yield FileStream.of(response.headers, response.iter_raw())

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
        return self._package.HfApi(endpoint=self.hub.endpoint, **self._identity)

    @cached_property
    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = self._package.utils.build_hf_headers(**self._identity)
        return headers

    @property
    def _identity(self) -> dict[str, Any]:
        # False: also not the token that is saved in the home folder
        token, version = self.hub.token or False, seatrial.__version__
        return {"token": token, "library_name": "seatrial", "library_version": version}

    def _models(self, query: Query) -> Iterator[Any]:
        """The pages of a search.

        ``HfApi.list_models`` follows the next page to huggingface.co, token included, where a
        mirror hands on the hub's own address; here the mirror is asked again.
        """
        package = self._package
        params: dict[str, Any] | None = {
            "expand": EXPAND,
            "sort": SORTS[query.sort],
            "limit": min(query.limit, PAGE),
            **({"search": query.text} if query.text else {}),
            **({"pipeline_tag": query.task} if query.task else {}),
        }
        url = f"{self.hub.endpoint}/api/models"

        def page() -> tuple[list[Any], str]:
            response = package.utils.get_session().get(
                url, params=params, headers=self._headers, timeout=self.access.timeout_s
            )
            package.utils.hf_raise_for_status(response)
            models = [package.ModelInfo(**model) for model in response.json()]
            return models, response.links.get("next", {}).get("url", "")

        while url:
            models, following = self.ask(page)
            yield from models
            following = package.utils.fix_hf_endpoint_in_url(following, self.hub.endpoint)
            url = following if models and following.startswith(f"{self.hub.endpoint}/") else ""
            params = None  # they are in the address of the next page

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """See `HubClient.asking`."""
        hub, errors = self.hub, self._package.errors
        http = require("httpx2", extra="hub", purpose=PURPOSE)  # the library's HTTP client
        # The library's one client follows redirects; it takes the token off before another host.
        hooks = self._package.utils.get_session().event_hooks["response"]
        if _on_response not in hooks:
            hooks.append(_on_response)
        try:
            yield
        except errors.HFValidationError as error:
            raise InvalidInput(f"{hub.title} knows no such name: {error}") from error
        except errors.GatedRepoError as error:
            status, said = error.response.status_code, _said(error.response)
            raise forbidden(hub, status, said, gated=True) from error
        except (
            errors.RepositoryNotFoundError,  # 401 too: the hub hides what is private
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
            raise self.circular() from error
        except (http.HTTPError, http.InvalidURL, http.StreamError) as error:
            raise unreachable(hub, error) from error

    def _missing(self, reference: Reference) -> InvalidInput:
        """The error for a 404, with the nearest name that there is."""
        known: list[str] = []
        with contextlib.suppress(SeatrialError):  # without a better hint then
            if reference.revision:
                refs = self.ask(lambda: self._api.list_repo_refs(reference.repo))
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


def _on_response(response: Any) -> None:
    """Check where an answer redirects to, before the library follows."""
    if response.has_redirect_location:
        check_redirect(str(response.url), str(response.url.join(response.headers["Location"])))


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
