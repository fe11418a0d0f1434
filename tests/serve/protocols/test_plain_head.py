"""Heads that are read without the parser are those that the parser reads in the same way."""

from __future__ import annotations

import time
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.serve.protocols.plain_head import PlainHead, read_plain_head
from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES, check_head

POST = b"POST /detect?iou=0.5 HTTP/1.1\r\n"
ORDINARY = POST + (
    b"Host: 127.0.0.1:3000\r\nUser-Agent: python-httpx/0.28\r\nACCEPT: */*\r\n"
    b"Connection: keep-alive\r\nContent-Type:image/jpeg\r\nContent-Length: 3\r\n\r\n"
)


# All that a refusal depends on, and repeats.
NOTED = (b"authorization", b"content-encoding", b"content-length", b"origin", b"traceparent",
         b"x-request-id", b"x-request-priority", b"x-request-timeout-ms")  # fmt: skip


class Parsed:
    """What the parser of the service makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.heads = self.ends = 0
        self.keeps = False
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.keeps = self.parser.should_keep_alive() and not self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def check_with_the_parser(data: bytes, head: PlainHead) -> None:
    assert head.head_bytes <= min(HEAD_BYTES, len(data))
    parsed = Parsed(data[: head.head_bytes] + b"x" * head.body_bytes)
    assert (parsed.heads, parsed.ends, parsed.keeps) == (1, 1, True)
    assert parsed.target.partition(b"?")[0] == head.path
    check_head("1.1", parsed.target, parsed.fields)
    noted = [(name, value) for name, value in parsed.fields if name in NOTED]
    assert list(head.fields) == (noted if len(noted) > 1 else [])
    assert parsed.body == b"x" * head.body_bytes
    assert (parsed.parser.get_method(), parsed.parser.get_http_version()) == (b"POST", "1.1")


def test_an_ordinary_head() -> None:
    head = read_plain_head(memoryview(ORDINARY + b"abc" + ORDINARY))
    assert head is not None
    assert (head.path, head.body_bytes, head.fields) == (b"/detect", 3, ())
    assert head.head_bytes == len(ORDINARY)
    check_with_the_parser(ORDINARY + b"abc", head)


@pytest.mark.parametrize(
    "head",
    [
        ORDINARY[:-1],
        ORDINARY.replace(b"POST", b"PUT"),
        ORDINARY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ORDINARY.replace(b"/detect", b"http://x/detect"),
        ORDINARY.replace(b"Content-Length: 3\r\n", b""),
        ORDINARY.replace(b"Length: 3", b"Length: 3, 3"),
        ORDINARY.replace(b"Length: 3", b"Length: +3"),
        ORDINARY.replace(b"Length: 3", b"Length: 3\r\nCONTENT-LENGTH: 3"),
        ORDINARY.replace(b"Host: 127.0.0.1:3000\r\n", b""),
        ORDINARY.replace(b"3000\r\n", b"3000\r\nHOST: x\r\n"),
        ORDINARY.replace(b"3000", b"port"),
        ORDINARY.replace(b"127.0.0.1:3000", b""),
        ORDINARY.replace(b"keep-alive", b"close"),
        ORDINARY.replace(b"keep-alive", b"upgrade"),
        ORDINARY.replace(b"ACCEPT: */*", b"Transfer-Encoding: chunked"),
        ORDINARY.replace(b"ACCEPT: */*", b"EXPECT: 100-continue"),
        ORDINARY.replace(b"ACCEPT: */*", b"Upgrade: h2c"),
        ORDINARY.replace(b"ACCEPT: */*", b"Proxy-Connection: close"),
        ORDINARY.replace(b"ACCEPT: */*", b"ACCEPT : */*"),
        ORDINARY.replace(b"ACCEPT: */*", b" ACCEPT: */*"),
        ORDINARY.replace(b"*/*", b"*/*\r\n folded"),
        ORDINARY.replace(b"*/*", b"\xff"),
        ORDINARY.replace(b"*/*", b"a\x00b"),
        ORDINARY.replace(b"*/*", b"a "),
        ORDINARY.replace(b"*/*", b""),
        ORDINARY.replace(b"\r\n", b"\n"),
        POST + b"X: a\r\n" * FIELDS + ORDINARY[len(POST) :],
        POST + b"X: " + b"a" * HEAD_BYTES + b"\r\n" + ORDINARY[len(POST) :],
    ],
)
def test_all_else_is_left_to_the_parser(head: bytes) -> None:
    assert read_plain_head(head + b"abc") is None


@pytest.mark.parametrize("name", NOTED)
def test_fields_that_matter_are_noted(name: bytes) -> None:
    data = ORDINARY.replace(b"ACCEPT: */*", name.title() + b": 7\r\nAccept: x\r\n" + name + b":8 9")
    head = read_plain_head(data + b"abc")
    if name == b"content-length":
        assert head is None
    else:
        assert head is not None
        assert head.fields == [(name, b"7"), (name, b"8 9"), (b"content-length", b"3")]
        assert head.asks == (name not in (b"authorization", b"traceparent", b"x-request-id"))
        check_with_the_parser(data, head)


@pytest.mark.parametrize(
    "part", [b"a" * 30_000, b" a" * 15_000, b"a:" * 15_000, b"[" * 30_000, b"%" * 30_000]
)
def test_no_head_takes_long_to_read(part: bytes) -> None:
    """Each byte is looked at a few times at most, however the head ends."""
    slowest = 0.0
    for begin in (b"POST /", POST + b"Host:", POST + b"X:", POST + b"Origin:", POST + b"X", POST):
        began = time.thread_time()
        assert read_plain_head(begin + part + b"\x01\r\n\r\n") is None
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.05  # 30,000 squared would be seconds


NAMES = (b"Host", b"Content-Length", b"CONTENT-length", b"Transfer-Encoding", b"Connection", b"X_y",
         b"Expect", b"Upgrade", b"Content-Encoding", b"X-Request-Timeout-Ms", b"")  # fmt: skip
VALUES = (b"x", b"0", b"3", b"007", b"3 ", b"keep-alive", b"Keep-Alive", b"close", b"chunked", b"",
          b"a  b", b"a\tb", b"gzip, br", b'"q"', b"\x80", b"12345678901")  # fmt: skip
odd = st.builds(
    lambda name, colon, value, end: name + colon + value + end,
    st.sampled_from(NAMES) | st.from_regex(rb"[!-~]{1,4}", fullmatch=True),
    st.sampled_from((b": ", b":", b":  ", b" :", b"")),
    st.sampled_from(VALUES) | st.binary(max_size=4),
    st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n ", b"\r")),
)
# Most heads are of these, or hardly one would be read: see the last test.
plain = st.builds(
    lambda name, colon, value: name + colon + value + b"\r\n",
    st.from_regex(rb"[A-Za-z0-9-]{1,6}", fullmatch=True)
    | st.sampled_from((b"TE", b"x-request-id")),
    st.sampled_from((b": ", b":", b":  ")),
    st.from_regex(rb"[!-~]{1,5}(  ?[!-~]{1,3}){0,2}", fullmatch=True),
)
line = st.sampled_from(
    (POST,) * 6 + (b"POST / HTTP/1.1\r\n", b"POST //x#y HTTP/1.1\r\n", b"POST /%00 HTTP/1.1\r\n")
)
length = st.sampled_from(
    (b"Host: x\r\nContent-Length: 3\r\n", b"content-length:0\r\nHOST:[::1]:8\r\n") * 4
    + (b"", b"Content-Length: 3\r\n", b"Host: x\r\n")
)
heads = st.builds(
    lambda line, before, length, after, end: (
        line + b"".join(before) + length + b"".join(after) + end + b"abc"
    ),
    line,
    st.lists(plain, max_size=3),
    length,
    st.lists(st.one_of(*[plain] * 7, odd), max_size=3),
    st.sampled_from((b"\r\n",) * 9 + (b"\n", b"\r\n\r\n")),
)


@settings(max_examples=300)
@given(heads)
def test_what_is_read_is_what_the_parser_reads(data: bytes) -> None:
    head = read_plain_head(data)
    if head is not None:
        check_with_the_parser(data, head)


def test_the_strategies_reach_heads_that_are_read_and_others() -> None:
    """The test before would say nothing of what it never makes."""
    read: list[int | None] = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(heads)
    def note(data: bytes) -> None:
        head = read_plain_head(data)
        read.append(None if head is None else len(head.fields))

    note()
    assert 60 < sum(fields is not None for fields in read) < len(read) - 30
    assert sum(bool(fields) for fields in read) > 20
