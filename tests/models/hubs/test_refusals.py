"""What goes wrong between here and a hub, in words that help; over the libraries of both hubs."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs import refusals
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access, Hub
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.listing import Query
from seatrial.models.hubs.modelscope import ModelScope
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.reference import Reference

pytest.importorskip("huggingface_hub", reason="seatrial[hub] is not installed")
pytest.importorskip("modelscope_hub", reason="seatrial[hub] is not installed")

ROUTES = {"huggingface": "/api/models", "modelscope": "/openapi/v1/models"}
TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
MIRRORS = {"huggingface": "HF_ENDPOINT=https", "modelscope": "MODELSCOPE_ENDPOINT=https"}


@pytest.fixture
def route(source: str) -> str:
    """The address of a search."""
    return ROUTES[source]


def changed(access: Access, source: str, **changes: Any) -> Access:
    """The access with changes to one hub."""
    hub = msgspec.structs.replace(getattr(access, source), **changes)
    return msgspec.structs.replace(access, **{source: hub})


def ask(access: Access, source: str) -> list[str]:
    found = search(source, Query("", "", limit=5), access)  # type: ignore[arg-type]
    return [model.name for model in found]


def client_for(access: Access, source: str) -> Any:
    return (HuggingFace if source == "huggingface" else ModelScope)(access)


def refused(access: Access, source: str) -> SeatrialError:
    with pytest.raises(SeatrialError) as refusal:
        ask(access, source)
    return refusal.value


def test_an_answer(hub: Any, access: Access, source: str, route: str) -> None:
    hub.add("a/b", {})
    assert ask(access, source) == ["a/b"]
    (seen,) = hub.asked(route)
    assert "seatrial/" in seen.headers["User-Agent"]
    assert not {"Authorization", "Cookie"} & set(seen.headers)


@pytest.mark.parametrize("mirrored", [HUGGINGFACE, MODELSCOPE])
def test_nobody_listens(mirrored: Hub) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{held.getsockname()[1]}"
        access = changed(Access(patience_s=0.0), mirrored.source, endpoint=gone)
        error = refused(access, mirrored.source)
    assert isinstance(error, SourceUnavailable)
    assert error.message == f"{mirrored.title} cannot be reached at {gone}: Connection refused"
    assert f"{mirrored.mirror_setting}=https://" in error.hint
    assert "HTTPS_PROXY" in error.hint


def test_a_name_that_is_not_known(source: str) -> None:
    error = refused(changed(Access(), source, endpoint="http://no-such-hub.invalid"), source)
    assert error.message.endswith(": its name is not known here")
    assert MIRRORS[source] in error.hint


def test_a_hub_that_says_nothing(
    hub: Any, access: Access, source: str, fault: Callable[..., Any]
) -> None:
    hub.add("a/b", {"model.onnx": b"x"})
    silent = threading.Event()
    hub.faults.append(fault("/revision/" if source == "huggingface" else "repo/files", hang=silent))
    client = client_for(msgspec.structs.replace(access, timeout_s=0.2), source)
    try:
        with pytest.raises(SourceUnavailable, match="no answer in time") as refusal:
            client.snapshot(Reference(source, "a/b"))
    finally:
        silent.set()
    assert MIRRORS[source] in refusal.value.hint


def test_it_does_not_speak_http(access: Access, source: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        error = refused(changed(access, source, endpoint=address), source)
        thread.join()
    assert isinstance(error, SourceUnavailable)
    assert "cannot be reached" in error.message


def test_a_hub_without_encryption_at_an_https_address(
    hub: Any, access: Access, source: str
) -> None:
    secure = hub.url.replace("http://", "https://")
    error = refused(changed(access, source, endpoint=secure), source)
    assert f"cannot be reached at {secure}: no encrypted connection" in error.message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_certificate_that_nobody_signed(
    hub: Any, access: Access, source: str, tmp_path: Path
) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
         "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    hub.hub.socket = context.wrap_socket(hub.hub.socket, server_side=True)
    secure = hub.url.replace("http://", "https://")
    error = refused(changed(access, source, endpoint=secure), source)
    assert "its certificate is not trusted (self" in error.message


@pytest.mark.parametrize("body", [b"<html>sign in to the network</html>", b"[1]", b"\xff\xfe"])
def test_something_else_lists_the_files(
    hub: Any, access: Access, source: str, fault: Callable[..., Any], body: bytes
) -> None:
    hub.add("a/b", {"model.onnx": b"x"})
    hub.faults.append(fault("/revision/" if source == "huggingface" else "repo/files", body=body))
    with pytest.raises(SourceUnavailable, match="answered something else") as refusal:
        client_for(access, source).snapshot(Reference(source, "a/b"))
    assert MIRRORS[source].removesuffix("=https") in refusal.value.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_outlived(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any], status: int
) -> None:
    hub.add("a/b", {})
    hub.faults.append(fault(route, status=status, times=2))
    assert ask(access, source) == ["a/b"]
    assert len(hub.asked(route)) == 3


@pytest.mark.parametrize("status", [500, 503])
def test_a_fault_that_stays(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any], status: int
) -> None:
    hub.faults.append(fault(route, status=status, times=99))
    error = refused(access, source)
    assert isinstance(error, SourceUnavailable)
    assert f"answered {status}" in error.message
    assert MIRRORS[source] in error.hint
    assert len(hub.seen) == access.attempts


def test_too_many_requests(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, status=429, headers={"Retry-After": "300"}, times=99))
    error = refused(access, source)
    assert "too many requests (429); it asks to wait 300 s" in error.message
    assert TOKENS[source] in error.hint
    assert len(hub.seen) == 1  # five minutes are not waited for


def test_waits_double_and_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(refusals.time, "sleep", slept.append)
    access = Access(patience_s=3.0)
    assert all(refusals.wait(access, failures) for failures in (1, 2, 3))
    assert refusals.wait(access, 1, 7.0)
    assert refusals.wait(access, 1, refusals.LONGEST_WAIT_S)
    assert not refusals.wait(access, 1, refusals.LONGEST_WAIT_S + 1)
    assert slept == [3.0, 6.0, 10.0, 7.0, 10.0]


def test_redirects_in_circles(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, location=f"{hub.url}{route}", times=99))
    error = refused(access, source)
    assert isinstance(error, SourceUnavailable)
    assert "redirects in circles" in error.message
    assert len(hub.seen) <= 40


def test_redirects_to_files_of_this_machine_are_not_followed(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, location="file:///etc/hostname"))
    assert isinstance(refused(access, source), SourceUnavailable)


def test_the_token_stays_with_its_host(hub: Any, access: Access, source: str) -> None:
    """The hub redirects large files to its CDN; the address there is enough."""
    hub.add("a/b", {"model.onnx": b"graph"}, gated=True)
    client = client_for(changed(access, source, token=hub.token), source)
    snapshot = client.snapshot(Reference(source, "a/b"))
    with client.open(snapshot, snapshot.files[0], 0) as body:
        assert b"".join(body.chunks) == b"graph"
    first, second = hub.seen[-2:]
    assert first.host == hub.url
    assert first.headers["Authorization"] == f"Bearer {hub.token}"
    assert "/cdn/" in second.path
    assert not {"Authorization", "Cookie"} & set(second.headers)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("huggingface", "/api/models/a/b/revision/main?blobs=true"),
        ("modelscope", "/openapi/v1/models/a/b"),
        ("modelscope", "/api/v1/models/a/b/repo/files?Revision=master&Recursive=True"),
    ],
)
def test_an_api_that_redirects_to_another_host_gives_the_token_to_none(
    hub: Any, access: Access, source: str, path: str, fault: Callable[..., Any]
) -> None:
    hub.add("a/b", {"model.onnx": b"graph"})
    hub.faults.append(fault(path, location=f"{hub.cdn_url}{path}"))
    client = client_for(changed(access, source, token=hub.token), source)
    assert [file.path for file in client.snapshot(Reference(source, "a/b")).files] == ["model.onnx"]
    (elsewhere,) = [seen for seen in hub.seen if seen.host == hub.cdn.url]
    assert elsewhere.path == path
    assert hub.token not in str(elsewhere.headers)
    assert all(hub.token in str(seen.headers) for seen in hub.seen if seen.host == hub.url)


def test_no_token_but_the_given_one(
    hub: Any, access: Access, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries would read one from the environment or the home folder by themselves."""
    hub.add("a/b", {"model.onnx": b"graph"})
    (tmp_path / "token").write_text("hf_saved")
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_environment")
    client = client_for(access, source)
    snapshot = client.snapshot(Reference(source, "a/b"))
    with client.open(snapshot, snapshot.files[0], 0) as body:
        assert b"".join(body.chunks) == b"graph"
    ask(access, source)
    assert not [seen for seen in hub.seen if {"Authorization", "Cookie"} & set(seen.headers)]


def test_nothing_is_written_to_the_home_folder(hub: Any, tmp_path: Path, source: str) -> None:
    hub.add("a/b", {"model.onnx": b"graph"})
    code = (
        "import sys, msgspec\n"
        "from seatrial.models.hubs.access import Access\n"
        "from seatrial.models.hubs.pull import _client\n"
        "from seatrial.models.hubs.reference import Reference\n"
        "access, source = Access(), sys.argv[2]\n"
        "hub = msgspec.structs.replace(getattr(access, source), endpoint=sys.argv[1])\n"
        "client = _client(source, msgspec.structs.replace(access, **{source: hub}))\n"
        "snapshot = client.snapshot(Reference(source, 'a/b'))\n"
        "with client.open(snapshot, snapshot.files[0], 0) as body:\n"
        "    print(b''.join(body.chunks))\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MODELSCOPE", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-c", code, hub.url, source], env=kept | {"HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "b'graph'\n", done.stderr
    assert done.stderr == ""
    assert list(home.rglob("*")) == []


def test_an_answer_401_asks_for_a_token(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, status=401))
    error = refused(access, source)
    assert "does not give this model to anonymous users (401" in error.message
    assert f"set {TOKENS[source]}" in error.hint


def test_a_token_that_is_not_accepted(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, status=401))
    error = refused(changed(access, source, token="hf_old"), source)
    assert "does not accept the token" in error.message
    assert TOKENS[source] in error.hint
    assert "hf_old" not in error.message + error.hint


def test_an_answer_404_is_the_callers(
    hub: Any, access: Access, source: str, route: str, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(route, status=404))
    assert isinstance(refused(access, source), InvalidInput)


def test_offline_on_purpose(hub: Any, access: Access, source: str) -> None:
    error = refused(changed(access, source, offline_setting="HF_HUB_OFFLINE"), source)
    assert "HF_HUB_OFFLINE is set" in error.message
    assert hub.seen == []


def test_search_maps_errors_too(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault("openapi", status=502, times=99))
    with pytest.raises(SourceUnavailable, match="answered 502") as refusal:
        search("modelscope", Query("detr"), access)
    assert "MODELSCOPE_ENDPOINT" in refusal.value.hint
