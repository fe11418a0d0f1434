"""The ModelScope hub through its own library: pages, commits, and a look at the files."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from seatrial.errors import SourceUnavailable
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.compatible import Compatibility
from seatrial.models.hubs.listing import Query, RemoteFile, Snapshot
from seatrial.models.hubs.modelscope import ModelScope, _iso
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.reference import Reference

pytest.importorskip("modelscope_hub", reason="seatrial[hub] is not installed")
from requests import Response
from requests.adapters import BaseAdapter


@pytest.mark.parametrize(("limit", "pages"), [(20, 1), (50, 1), (51, 2), (250, 5)])
def test_pages_of_modelscope(
    hub: Any, access: Access, many: list[str], limit: int, pages: int
) -> None:
    assert len(search("modelscope", Query("detr", limit=limit), access)) == limit
    assert len(hub.asked("openapi")) == pages


def test_modelscope_has_its_own_names_for_tasks(hub: Any, access: Access) -> None:
    search("modelscope", Query("detr", "object-detection", "trending"), access)
    (seen,) = hub.asked("openapi")
    assert "filter.task=image-object-detection" in seen.path
    assert "sort=default" in seen.path


def test_modelscope_is_asked_for_the_files_of_the_first_models_only(
    hub: Any, access: Access, many: list[str]
) -> None:
    found = search("modelscope", Query("detr", limit=60), access)
    assert len(hub.asked("repo/files")) == len(hub.asked("FilePath=config.json")) == 50
    assert [model.verdict.runs for model in found] == ["yes"] * 50 + ["unknown"] * 10


@pytest.mark.parametrize("route", ["repo/files", "FilePath"])
def test_files_that_cannot_be_looked_at_are_no_reason_to_fail(
    hub: Any, access: Access, fault: Any, route: str
) -> None:
    hub.add("acme/detr", {"config.json": b'{"model_type": "detr"}', "model.safetensors": b"x"})
    hub.faults.append(fault(route, status=500, times=9))
    (model,) = search("modelscope", Query("detr"), access)
    assert model.verdict == Compatibility("unknown")


def test_files_at_the_commit_of_the_branch(hub: Any, access: Access) -> None:
    hub.add("a/b", {"config.json": b"{}", "model.safetensors": b"abc"}, licence="mit")
    old = hub.repos["a/b"].head
    hub.push("a/b", {"config.json": b"{ }"})
    client = ModelScope(access)
    snapshot = client.snapshot(Reference("modelscope", "a/b"))
    assert (snapshot.repo, snapshot.commit, snapshot.licence) == (
        "a/b",
        hub.repos["a/b"].head,
        "mit",
    )
    assert [(file.path, file.size_bytes) for file in snapshot.files] == [("config.json", 3)]
    pinned = client.snapshot(Reference("modelscope", "a/b", revision=old))
    assert pinned.commit == old
    assert [file.path for file in pinned.files] == ["config.json", "model.safetensors"]
    assert pinned.files[1].sha256 == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_listing_without_files(hub: Any, access: Access, fault: Any) -> None:
    hub.add("a/b", {"config.json": b"{}"})
    refusal = msgspec.json.encode({"Code": 10010, "Message": "try later"})
    hub.faults.append(fault("repo/files", body=refusal))
    with pytest.raises(SourceUnavailable, match="does not list the files of a/b") as caught:
        ModelScope(access).snapshot(Reference("modelscope", "a/b"))
    assert "MODELSCOPE_ENDPOINT" in caught.value.hint


def test_times_come_as_text_or_as_seconds() -> None:
    assert _iso(0) == "1970-01-01T00:00:00+00:00"
    assert _iso(datetime(2026, 5, 4, tzinfo=UTC)) == "2026-05-04T00:00:00+00:00"
    assert _iso("2026") == "2026"
    assert _iso(None) == ""


def test_the_user_is_not_followed(hub: Any, access: Access) -> None:
    """The library would send a number that it keeps in the home folder."""
    search("modelscope", Query("", "", limit=1), access)
    sent = hub.asked("openapi")[0].headers["User-Agent"]
    assert "seatrial/" in sent


def test_a_search_asks_for_its_words_and_for_no_page_behind_the_last(
    hub: Any, access: Access
) -> None:
    for name in ("detr-a", "detr-b", "yolo"):
        hub.add(f"a/{name}", {})
    found = search("modelscope", Query("detr", limit=5), access)
    assert {model.name for model in found} == {"a/detr-a", "a/detr-b"}
    assert len(hub.asked("/openapi/v1/models")) == 1


class Redirecting(BaseAdapter):
    """An https hub that redirects to http."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(request.url)
        answer = Response()
        answer.status_code, answer.url, answer.request = 302, request.url, request
        answer.headers["Location"], answer.raw = "http://other.invalid/x", io.BytesIO()
        return answer

    def close(self) -> None: ...


@pytest.mark.parametrize("call", ["search", "snapshot", "tree", "open"])
def test_a_redirect_out_of_the_encryption_is_not_followed(access: Access, call: str) -> None:
    secure = msgspec.structs.replace(access.modelscope, endpoint="https://hub.invalid", token="ms")
    client, hub = ModelScope(msgspec.structs.replace(access, modelscope=secure)), Redirecting()
    for part in (client._api.openapi, client._api.legacy):
        for session in (part._session, part._read_session):
            session.adapters = {"http": hub}
    with pytest.raises(SourceUnavailable, match=r"hub\.invalid redirects to .*without encryption"):
        if call == "search":
            client.search(Query("detr"))
        elif call == "snapshot":
            client.snapshot(Reference("modelscope", "a/b"))
        elif call == "tree":
            client._tree("a/b", "master")
        else:
            with client.open(Snapshot("modelscope", "a/b", "c", "", ()), RemoteFile("f", 1), 0):
                pass
    assert [url.startswith("https://hub.invalid/") for url in hub.asked] == [True]
