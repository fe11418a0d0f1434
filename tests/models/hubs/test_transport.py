"""What goes wrong between here and a hub, in words that help."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import InvalidConfig, InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access, Hub, endpoint
from seatrial.models.hubs.listing import Query
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.transport import Client, _Redirects

MODELS = "/api/models"


class _Anything(msgspec.Struct):
    id: str


def ask(access: Access, hub: Hub | None = None) -> Any:
    return Client(access).get_json(hub or access.huggingface, MODELS, list[_Anything])[0]


def refused(access: Access, hub: Hub | None = None) -> SeatrialError:
    with pytest.raises(SeatrialError) as refusal:
        ask(access, hub)
    return refusal.value


def test_an_answer(hub: Any, access: Access) -> None:
    hub.add("a/b", {})
    assert [model.id for model in ask(access)] == ["a/b"]
    (seen,) = hub.seen
    assert seen.headers["User-Agent"].startswith("seatrial/")
    assert "Authorization" not in seen.headers


@pytest.mark.parametrize("mirrored", [HUGGINGFACE, MODELSCOPE])
def test_nobody_listens(mirrored: Hub) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        gone = msgspec.structs.replace(
            mirrored, endpoint=f"http://127.0.0.1:{held.getsockname()[1]}"
        )
        error = refused(Access(patience_s=0.0), gone)
    assert isinstance(error, SourceUnavailable)
    assert error.message.startswith(f"{mirrored.title} cannot be reached at {gone.endpoint}")
    assert "Connection refused" in error.message
    assert f"{mirrored.mirror_setting}=https://" in error.hint
    assert "HTTPS_PROXY" in error.hint


def test_a_name_that_is_not_known() -> None:
    gone = msgspec.structs.replace(HUGGINGFACE, endpoint="http://no-such-hub.invalid")
    error = refused(Access(), gone)
    assert "its name is not known here" in error.message
    assert "HF_ENDPOINT" in error.hint


def test_a_hub_that_says_nothing(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    silent = threading.Event()
    hub.faults.append(fault(MODELS, hang=silent))
    started = time.monotonic()
    try:
        error = refused(msgspec.structs.replace(access, timeout_s=0.2))
    finally:
        silent.set()
    assert "no answer in time" in error.message
    assert "HF_ENDPOINT" in error.hint
    assert time.monotonic() - started < 5


def test_it_does_not_speak_http(access: Access) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        error = refused(
            access, msgspec.structs.replace(HUGGINGFACE, endpoint=f"http://127.0.0.1:{port}")
        )
        thread.join()
    assert isinstance(error, SourceUnavailable)
    assert "cannot be reached" in error.message


def test_a_hub_without_encryption_at_an_https_address(hub: Any, access: Access) -> None:
    secure = hub.url.replace("http://", "https://")
    error = refused(access, msgspec.structs.replace(HUGGINGFACE, endpoint=secure))
    assert f"cannot be reached at {secure}: no encrypted connection" in error.message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_certificate_that_nobody_signed(hub: Any, access: Access, tmp_path: Path) -> None:
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
    error = refused(access, msgspec.structs.replace(HUGGINGFACE, endpoint=secure))
    assert "its certificate is not trusted (self" in error.message
    assert "SSL_CERT_FILE" in error.message


def test_a_redirect_that_drops_the_encryption(access: Access) -> None:
    request = urllib.request.Request("https://hub.invalid/x")
    with pytest.raises(SourceUnavailable, match="without encryption"):
        _Redirects().redirect_request(
            request, io.BytesIO(), 302, "Found", HTTPMessage(), "http://hub.invalid/y"
        )


@pytest.mark.parametrize("body", [b"<html>sign in to the network</html>", b'{"a": 1}', b"\xff\xfe"])
def test_something_else_answers(
    hub: Any, access: Access, fault: Callable[..., Any], body: bytes
) -> None:
    hub.faults.append(fault(MODELS, body=body))
    error = refused(access)
    assert isinstance(error, SourceUnavailable)
    assert "gave something else than its API does" in error.message
    assert "HF_ENDPOINT" in error.hint


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_outlived(
    hub: Any, access: Access, fault: Callable[..., Any], status: int
) -> None:
    hub.add("a/b", {})
    hub.faults.append(fault(MODELS, status=status, times=2))
    assert len(ask(access)) == 1
    assert len(hub.seen) == 3


@pytest.mark.parametrize("status", [500, 503])
def test_a_fault_that_stays(
    hub: Any, access: Access, fault: Callable[..., Any], status: int
) -> None:
    hub.faults.append(fault(MODELS, status=status, times=99))
    error = refused(access)
    assert isinstance(error, SourceUnavailable)
    assert f"answered {status}" in error.message
    assert "HF_ENDPOINT" in error.hint
    assert len(hub.seen) == access.attempts


def test_too_many_requests(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault(MODELS, status=429, headers={"Retry-After": "300"}, times=99))
    error = refused(access)
    assert "too many requests (429); it asks to wait 300 s" in error.message
    assert "HF_TOKEN" in error.hint
    assert len(hub.seen) == 1  # five minutes are not waited for


def test_a_short_wait_is_waited(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.add("a/b", {})
    hub.faults.append(fault(MODELS, status=429, headers={"Retry-After": "0"}))
    assert len(ask(access)) == 1


def test_redirects_in_circles(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault(MODELS, location=f"{hub.url}{MODELS}", times=99))
    error = refused(access)
    assert isinstance(error, SourceUnavailable)
    assert "redirects in circles" in error.message
    assert len(hub.seen) <= 11


def test_redirects_to_files_of_this_machine_are_not_followed(
    hub: Any, access: Access, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(MODELS, location="file:///etc/hostname"))
    assert isinstance(refused(access), SourceUnavailable)


@pytest.mark.parametrize(
    ("source", "header"), [("huggingface", "Authorization"), ("modelscope", "Cookie")]
)
def test_the_token_stays_with_its_host(
    hub: Any, access: Access, fault: Callable[..., Any], source: str, header: str
) -> None:
    asked = msgspec.structs.replace(access.hub(source), token=hub.token)
    hub.add("a/b", {})
    hub.faults.append(fault("/api/models", location=f"{hub.cdn_url}/api/models?moved"))
    ask(access, asked)
    first, second = hub.seen
    assert hub.token in first.headers[header]
    assert second.host == hub.cdn_url
    assert not {"Authorization", "Cookie"} & set(second.headers)
    assert hub.token not in repr(asked)


def test_an_answer_401_asks_for_a_token(
    hub: Any, access: Access, fault: Callable[..., Any]
) -> None:
    hub.faults.append(fault(MODELS, status=401))
    error = refused(access)
    assert "wants to know who asks (401" in error.message
    assert "set HF_TOKEN" in error.hint


def test_a_token_that_is_not_accepted(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault(MODELS, status=401))
    error = refused(access, msgspec.structs.replace(access.huggingface, token="hf_old"))
    assert "does not accept the token" in error.message
    assert "HF_TOKEN" in error.hint
    assert "hf_old" not in error.message + error.hint


def test_an_answer_404_is_the_callers(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault(MODELS, status=404))
    assert isinstance(refused(access), InvalidInput)


def test_offline_on_purpose(hub: Any, access: Access) -> None:
    error = refused(
        access, msgspec.structs.replace(access.huggingface, offline_setting="HF_HUB_OFFLINE")
    )
    assert "HF_HUB_OFFLINE is set" in error.message
    assert hub.seen == []


def test_a_proxy_is_used(hub: Any, access: Access) -> None:
    """A proxy is asked for the whole address; the hub stands in for one."""
    hub.add("a/b", {})
    far = msgspec.structs.replace(access, proxies={"http": hub.url})
    found = ask(far, msgspec.structs.replace(HUGGINGFACE, endpoint="http://hub.invalid"))
    assert [model.id for model in found] == ["a/b"]
    (seen,) = hub.seen
    assert seen.path == "http://hub.invalid/api/models"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("https://hf-mirror.com/", "https://hf-mirror.com"),
        ("hf-mirror.com", "https://hf-mirror.com"),
        (" http://127.0.0.1:8000/hub ", "http://127.0.0.1:8000/hub"),
        ("HTTPS://huggingface.co", "HTTPS://huggingface.co"),
    ],
)
def test_addresses_of_mirrors(value: str, address: str) -> None:
    assert endpoint(value, setting="HF_ENDPOINT") == address


@pytest.mark.parametrize("value", ["ftp://x", "https://", "file:///tmp", "http://x?y=1", "/"])
def test_what_is_no_address(value: str) -> None:
    with pytest.raises(InvalidConfig, match="HF_ENDPOINT"):
        endpoint(value, setting="HF_ENDPOINT")


def test_search_maps_errors_too(hub: Any, access: Access, fault: Callable[..., Any]) -> None:
    hub.faults.append(fault("openapi", status=502, times=99))
    with pytest.raises(SourceUnavailable, match="answered 502") as refusal:
        search("modelscope", Query("detr"), access)
    assert "MODELSCOPE_ENDPOINT" in refusal.value.hint
