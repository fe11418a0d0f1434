"""Which heads are refused; `test_http_protocol` sends them."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrial.serve.protocols.request_head import (
    HEAD_BYTES,
    RefusedHead,
    check_head,
    lengths_alone,
    refusal_of,
)

HOST = (b"host", b"x")


def status(version: str = "1.1", target: bytes = b"/", *headers: tuple[bytes, bytes]) -> int:
    """Status of the refusal; 200 where there is none."""
    try:
        check_head(version, target, headers)
    except RefusedHead as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"", 200), (b"localhost:3000", 200), (b"127.0.0.1", 200), (b"[::1]:80", 200),
        (b"xn--bcher-kva.example", 200), (b"x:", 200), (b"x%41", 200),
        (b"x y", 400), (b"x/", 400), (b"a@x", 400), (b"x:y", 400), (b"[::1", 400), (b"x?", 400),
        (b"x#", 400), (b"\xc3\xbc", 400), (b"http://x", 400), (b"x,y:1:2", 400),
    ],
)  # fmt: skip
def test_hosts(host: bytes, expected: int) -> None:
    assert status("1.1", b"/", (b"host", host)) == expected


@pytest.mark.parametrize(("version", "none", "two"), [("1.1", 400, 400), ("1.0", 200, 400)])
def test_a_request_has_one_host(version: str, none: int, two: int) -> None:
    assert status(version) == none
    assert status(version, b"/", HOST) == 200
    assert status(version, b"/", HOST, (b"accept", b"*/*"), HOST) == two


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0"])
def test_other_versions(version: str) -> None:
    assert status(version, b"/", HOST) == 505


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"chunked", 200), (b"Chunked ", 200), (b"gzip", 501), (b"gzip, chunked", 501), (b"", 501)],
)
def test_transfer_codings(value: bytes, expected: int) -> None:
    assert status("1.1", b"/", HOST, (b"transfer-encoding", value)) == expected
    assert status("1.0", b"/", HOST, (b"transfer-encoding", value)) == 400


@given(st.integers(0, HEAD_BYTES + 100), st.integers(0, HEAD_BYTES + 100))
def test_target_and_fields_share_the_limit(target: int, value: int) -> None:
    size = target + value + len(b"host" + b"x" + b"name") + 8
    expected = 431 if size > HEAD_BYTES else 200
    assert status("1.1", b"a" * target, HOST, (b"name", b"a" * value)) == expected


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GET / HTTP/1.2\r\n\r\n", 505, "this version of HTTP is not spoken here"),
        (b"GET / HTTP/3.0\r\n\r\n", 505, "this version of HTTP is not spoken here"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2 is not spoken here"),
        (b"\x16\x03\x01\x02", 400, "not an HTTP request: this looks like TLS"),
        (b"\x16\x04\x01\x02", 400, "not an HTTP request: Invalid method encountered"),
        (b"PROXY TCP4 1.2.3.4", 400, "not an HTTP request: this is the PROXY protocol"),
        (b"\0\r\nQUIT\n", 400, "not an HTTP request: this is the PROXY protocol"),
        (b"nonsense", 400, "not an HTTP request: Invalid method encountered"),
    ],
)
def test_what_the_parser_refuses_is_named(sent: bytes, status: int, words: str) -> None:
    """By what the installed parser says."""
    with pytest.raises(httptools.HttpParserError) as stopped:
        httptools.HttpRequestParser(object()).feed_data(sent)
    refusal = refusal_of(stopped.value, sent)
    assert (refusal.status, refusal.code) == (status, f"Http{status}")
    assert refusal.message.startswith(words)


def test_within_a_request_no_other_protocol_begins() -> None:
    error = httptools.HttpParserError("Invalid character")
    assert refusal_of(error).message == "not an HTTP request: Invalid character"
    assert refusal_of(error, b"PROXY ").message != refusal_of(error).message


@pytest.mark.parametrize(("keep_alive", "close"), [(True, b""), (False, b"Connection: close\r\n")])
def test_a_head_of_lengths_alone(keep_alive: bool, close: bytes) -> None:
    headers = [(b"host", b"x"), (b"content-length", b"7"), (b"upgrade", b"h2c")]
    found = lengths_alone(headers, keep_alive)
    assert found == b"POST / HTTP/1.1\r\ncontent-length: 7\r\n" + close + b"\r\n"
