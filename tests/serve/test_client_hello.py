"""The first message of a client: where it ends, however it was cut."""

from __future__ import annotations

import contextlib
import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrial.serve.client_hello import HELLO_BYTES, ClientHello


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(content).to_bytes(2) + content


def message(length: int = 0) -> bytes:
    """A ClientHello: that of a real client, or one of a length."""
    if length:
        return b"\x01" + (length - 4).to_bytes(3) + bytes(length - 4)
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(coming, going, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return going.read()[5:]


def test_it_ends_with_the_record_in_which_its_last_byte_is() -> None:
    whole, found = message(), []
    for sizes in ([len(whole)], [4, len(whole) - 4], [1, 1, 0, 1, 1, 100, len(whole) - 104]):
        hello, rest = ClientHello(), whole
        for size in sizes:
            assert not hello.whole
            hello.add(record(rest[:size]))
            rest = rest[size:]
        assert not rest
        found.append((hello.whole, hello.other))
    assert found == [(True, False)] * 3


@given(st.data())
def test_the_pieces_in_which_it_comes_change_nothing(data: st.DataObject) -> None:
    whole = message(data.draw(st.integers(4, 300)))
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))
    ends = [0, *cuts, len(whole)]
    sent = b"".join(record(whole[a:b]) for a, b in itertools.pairwise(ends) if a < b)
    hello = ClientHello()
    for at in range(0, len(sent), size := data.draw(st.integers(1, 40))):
        assert not hello.whole
        hello.add(sent[at : at + size])
        assert not hello.other
    assert hello.whole
    assert hello.data == sent


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0", b"\x17\x03\x03\x00\x05", record(b"\x02\0\0\x01\0"),
        record(message()[:9]) + record(b"\x01", kind=20),
        record(b"\x01" + HELLO_BYTES.to_bytes(3)),
        record(b"") * (HELLO_BYTES // 5 + 1),
    ],
    ids=["no-tls", "other-record", "other-message", "other-record-behind", "long", "empty-records"],
)  # fmt: skip
def test_what_it_is_not(sent: bytes) -> None:
    hello = ClientHello()
    hello.add(sent)
    assert (hello.whole, hello.other) == (False, True)


def test_one_byte_at_a_time_costs_no_more_than_its_length() -> None:
    """Each record is looked at once, and not again with each byte that follows."""
    looks: list[int] = []

    class Watched(bytearray):
        def __getitem__(self, where: object) -> object:  # type: ignore[override]
            looks.append(1)
            return super().__getitem__(where)  # type: ignore[call-overload]

    hello = ClientHello()
    hello.data = Watched()
    whole = message(2000)
    sent = b"".join(record(whole[at : at + 1]) for at in range(len(whole)))
    for at in range(len(sent)):
        hello.add(sent[at : at + 1])
    assert hello.whole
    assert len(looks) < 8 * len(sent)
