"""The Hugging Face hub through its own library: pages, mirrors, and what is not its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from seatrial.errors import SourceUnavailable
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.huggingface import HuggingFace, _licence, _listing, _weights_bytes
from seatrial.models.hubs.listing import Query, RemoteFile, Snapshot
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.reference import Reference

package = pytest.importorskip("huggingface_hub", reason="seatrial[hub] is not installed")


def changed(access: Access, **changes: Any) -> Access:
    """The access with changes to the hub."""
    hub = msgspec.structs.replace(access.huggingface, **changes)
    return msgspec.structs.replace(access, huggingface=hub)


@pytest.mark.parametrize(("limit", "pages"), [(20, 1), (100, 1), (101, 2), (250, 3)])
def test_pages_of_huggingface(
    hub: Any, access: Access, many: list[str], limit: int, pages: int
) -> None:
    assert len(search("huggingface", Query("detr", limit=limit), access)) == limit
    assert len(hub.seen) == pages
    # The mirror hands on the hub's own addresses; it is the mirror that is asked again.
    assert {seen.host for seen in hub.seen} == {hub.url}


@pytest.mark.parametrize("body", [b"<html>sign in to the network</html>", b'{"a": 1}', b"\xff\xfe"])
def test_something_else_answers(
    hub: Any, access: Access, fault: Callable[..., Any], body: bytes
) -> None:
    hub.faults.append(fault("/api/models", body=body))
    with pytest.raises(SourceUnavailable) as refusal:
        search("huggingface", Query("", "", limit=5), access)
    error = refusal.value
    assert "answered something else than its API does" in error.message
    assert "HF_ENDPOINT" in error.hint


@pytest.fixture
def unencrypted() -> Iterator[list[str]]:
    """Addresses that were asked of an https hub that redirects to http."""
    httpx2, http = pytest.importorskip("httpx2"), package.utils._http
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(str(request.url))
        return httpx2.Response(302, headers={"Location": "http://other.invalid/x"})

    transport = httpx2.MockTransport(answer)
    http.set_client_factory(lambda: httpx2.Client(transport=transport, follow_redirects=True))
    try:
        yield asked
    finally:
        http.set_client_factory(http.default_client_factory)


@pytest.mark.parametrize("call", ["search", "snapshot", "open"])
def test_a_redirect_out_of_the_encryption_is_not_followed(
    access: Access, unencrypted: list[str], call: str
) -> None:
    client = HuggingFace(changed(access, endpoint="https://hub.invalid", token="hf_secret"))
    with pytest.raises(SourceUnavailable, match=r"hub\.invalid redirects to .*without encryption"):
        if call == "search":
            client.search(Query("detr"))
        elif call == "snapshot":
            client.snapshot(Reference("huggingface", "a/b"))
        else:
            with client.open(Snapshot("huggingface", "a/b", "c", "", ()), RemoteFile("f", 1), 0):
                pass
    assert [url.startswith("https://hub.invalid/") for url in unencrypted] == [True]


def test_a_search_goes_on_where_it_began(hub: Any, access: Access) -> None:
    """A mirror may hand on the hub's own address for the next page; it would get the token."""
    for number in range(120):
        hub.add(f"a/b{number}", {})
    token = changed(access, token=hub.token)
    assert len(search("huggingface", Query("", "", limit=110), token)) == 110
    assert {seen.host for seen in hub.seen} == {hub.url}
    assert len(hub.seen) == 2


def test_hashes_of_large_and_of_small_files(hub: Any, access: Access) -> None:
    hub.add("a/b", {"config.json": b"{}", "model.safetensors": b"abc"}, licence="mit")
    snapshot = HuggingFace(access).snapshot(Reference("huggingface", "a/b"))
    assert (snapshot.repo, snapshot.commit, snapshot.licence) == (
        "a/b",
        hub.repos["a/b"].head,
        "mit",
    )
    small, large = snapshot.files
    assert (small.size_bytes, small.sha256) == (2, "")
    assert small.git_sha1 == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # git hash-object
    assert (large.size_bytes, large.git_sha1) == (3, "")
    assert large.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("card", "tags", "licence"),
    [
        ({"license": "mit"}, ["license:apache-2.0"], "mit"),
        ({"license": ["mit", "apache-2.0"]}, [], "mit AND apache-2.0"),
        ({"license": "other", "license_name": "deci"}, [], "deci"),
        ({"license": "other"}, [], "other"),
        ({}, ["detr", "license:bsd"], "bsd"),
        (None, [], "unknown"),
    ],
)
def test_licences(card: Any, tags: list[str], licence: str) -> None:
    assert _licence(package.ModelInfo(id="a/b", cardData=card, tags=tags)) == licence


@pytest.mark.parametrize(
    ("parameters", "size"),
    [({"F32": 10}, 40), ({"BF16": 3, "I64": 2}, 22), ({"F8_E4M3": 4}, 4), ({"BOOL": 16}, 16)],
)
def test_bytes_of_parameters(parameters: dict[str, int], size: int) -> None:
    model = package.ModelInfo(id="a/b", safetensors={"parameters": parameters, "total": 1})
    assert _weights_bytes(model.safetensors) == size


def test_nothing_is_told_of_this_machine(hub: Any, access: Access) -> None:
    """The library would name torch's version and who runs it."""
    pytest.importorskip("torch")
    search("huggingface", Query("", "", limit=1), access)
    sent = hub.seen[0].headers["User-Agent"]
    assert sent.startswith("seatrial/")
    assert "torch" not in sent
    assert "agent/" not in sent


def test_a_model_of_a_search(hub: Any, access: Access) -> None:
    config = b'{"model_type": "detr"}'
    hub.add("a/detr", {"config.json": config, "onnx/model.onnx": b"x"}, downloads=12, likes=3,
            tags=["vision"], licence="mit", gated=True)  # fmt: skip
    (model,) = HuggingFace(access).search(Query("detr", limit=1))
    assert (model.name, model.downloads, model.likes, model.gated) == ("a/detr", 12, 3, True)
    assert model.reference == "huggingface:a/detr/onnx/model.onnx"
    assert (model.verdict.runs, model.verdict.family) == ("yes", "detr")
    assert model.tags == ("vision", "license:mit", "transformers")
    assert (model.licence, model.size_bytes) == ("mit", None)
    assert model.updated == "2026-05-04T03:02:01+00:00"


def test_a_search_that_is_refused(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault("/api/models", status=418))
    with pytest.raises(SourceUnavailable, match="answered 418"):
        HuggingFace(access).search(Query())


def test_a_model_of_which_no_files_are_told() -> None:
    listing = _listing(package.ModelInfo(id="a/b", tags=["ultralytics"], siblings=None))
    assert listing.verdict.describe() == "? (needs an .onnx file)"
