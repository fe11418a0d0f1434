"""Heads that are read without the parser are those that the parser reads in the same way."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.serve.protocols.plain_head import PlainHead, read_plain_head
from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES

POST = b"POST /detect?iou=0.5 HTTP/1.1\r\n"
ORDINARY = POST + (
    b"Host: 127.0.0.1:3000\r\nUser-Agent: python-httpx/0.28\r\nACCEPT: */*\r\n"
    b"Connection: keep-alive\r\nContent-Type:image/jpeg\r\nContent-Length: 3\r\n\r\n"
)


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
    assert (parsed.target, parsed.fields) == (head.target, head.fields)
    assert parsed.body == b"x" * head.body_bytes
    assert (parsed.parser.get_method(), parsed.parser.get_http_version()) == (b"POST", "1.1")


def test_an_ordinary_head() -> None:
    head = read_plain_head(memoryview(ORDINARY + b"abc" + ORDINARY))
    assert head is not None
    assert (head.target, head.body_bytes) == (b"/detect?iou=0.5", 3)
    assert head.fields[2] == (b"accept", b"*/*")
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
    st.from_regex(rb"[A-Za-z0-9-]{1,6}", fullmatch=True) | st.sampled_from((b"Host", b"TE", b"X")),
    st.sampled_from((b": ", b":", b":  ")),
    st.from_regex(rb"[!-~]{1,5}(  ?[!-~]{1,3}){0,2}", fullmatch=True),
)
line = st.sampled_from(
    (POST,) * 6 + (b"POST / HTTP/1.1\r\n", b"POST //x#y HTTP/1.1\r\n", b"POST /%00 HTTP/1.1\r\n")
)
length = st.sampled_from((b"Content-Length: 3\r\n", b"content-length:0\r\n") * 4 + (b"",))
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
    read: list[int] = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(heads)
    def note(data: bytes) -> None:
        head = read_plain_head(data)
        read.append(0 if head is None else len(head.fields))

    note()
    assert 60 < sum(fields > 0 for fields in read) < len(read) - 30
    assert sum(fields > 2 for fields in read) > 20
