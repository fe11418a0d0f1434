"""How many connections fit into what a process may open."""

from __future__ import annotations

import resource

import pytest

from seatrial.errors import ServiceFailed
from seatrial.serve import connection_limit
from seatrial.serve.connection_limit import (
    MOST,
    TLS_BYTES,
    most_encrypted,
    room,
    share,
    tls_memory_bytes,
)


def test_what_fits_is_what_the_limit_of_open_files_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [(256, 256)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, value: limit.__setitem__(0, value))
    monkeypatch.setattr(connection_limit.os, "listdir", lambda _: ["0"] * 50)
    assert room(None) == 256 - 50 - 32 - 16
    assert room(100) == 100
    # Another server beside has half of them, and may have them twice for a moment.
    fits = room(None, beside=1)
    assert fits == 2 * (256 - 50 - 32 - 16) // 3
    assert fits + share(fits) <= 256 - 50 - 32 - 16
    assert room(100, beside=1) == 100
    with pytest.raises(ServiceFailed, match="room for 105 connections; it needs 120") as few:
        room(120, beside=1)
    assert "ulimit -n 278" in few.value.hint
    with pytest.raises(ServiceFailed, match=r"256 open files, .* room for 158 .* needs 200") as few:
        room(200)
    assert "ulimit -n 298" in few.value.hint
    limit[0] = (100, 100)
    with pytest.raises(ServiceFailed, match="room for 2 connections; it needs 16"):
        room(None)


@pytest.mark.parametrize("hard", [4096, resource.RLIM_INFINITY])
def test_the_soft_limit_is_raised_as_far_as_needed(
    monkeypatch: pytest.MonkeyPatch, hard: int
) -> None:
    limit = [(1024, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, value: limit.__setitem__(0, value))
    assert room(1500) == 1500
    assert 1500 < limit[0][0] < 1700
    assert limit[0][1] == hard
    fits = room(None)
    assert fits == connection_limit.MOST if hard < 0 else 3900 < fits < 4048


def test_connections_with_tls_are_as_many_as_the_memory_allows() -> None:
    """A container of 1 GiB was killed by 4,000 of them."""
    small = tls_memory_bytes(900 * 2**20, None)
    assert small == 225 * 2**20
    assert most_encrypted(small, None) == small // TLS_BYTES < 1000
    assert most_encrypted(tls_memory_bytes(64 * 2**30, None), None) == MOST
    assert tls_memory_bytes(64 * 2**30, 100) == 100 * TLS_BYTES
    assert most_encrypted(100 * TLS_BYTES, 100) == 100
    with pytest.raises(ServiceFailed, match="room for 786; it needs 2000") as few:
        most_encrypted(small, 2000)
    assert "limits.connections" in few.value.hint
    with pytest.raises(ServiceFailed, match="room for 3; it needs 16"):
        most_encrypted(4 * 2**20 // 4, None)


def test_more_connections_than_by_default_need_memory_for_all_of_them() -> None:
    assert most_encrypted(2 * MOST * TLS_BYTES, 2 * MOST) == 2 * MOST
    with pytest.raises(ServiceFailed, match=f"room for {MOST}; it needs {2 * MOST}"):
        most_encrypted(MOST * TLS_BYTES, 2 * MOST)
