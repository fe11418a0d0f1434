"""Head and body of an answer leave in one piece, and nothing that was written is lost."""

from __future__ import annotations

import asyncio
from typing import Any

from seatrial.serve.one_write import OneWrite


class Noted:
    """A transport that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def is_closing(self) -> bool:
        return "close" in self.told

    def close(self) -> None:
        self.told.append("close")


def told(*steps: bytes | str) -> list[bytes | str]:
    """What a transport is told of writes, ``close`` and waits of a turn of the loop (``turn``)."""

    async def run() -> list[bytes | str]:
        noted: Any = Noted()
        one = OneWrite(noted)
        for step in steps:
            if step == "turn":
                await asyncio.sleep(0)
            elif step == "close":
                one.close()
                assert one.is_closing()
            else:
                assert isinstance(step, bytes)
                one.write(step)
        await asyncio.sleep(0)
        recorded: list[bytes | str] = noted.told
        return recorded

    return asyncio.run(run())


def test_a_head_and_its_body_are_one_write() -> None:
    assert told(b"head", b"body") == [b"headbody"]
    assert told(b"head", b"body", "turn", b"more", b"end") == [b"headbody", b"more", b"end"]


def test_a_head_without_a_body_does_not_wait_for_one() -> None:
    assert told(b"head", "turn", b"body") == [b"head", b"body"]
    assert told(b"head") == [b"head"]


def test_what_is_held_goes_before_the_end() -> None:
    assert told(b"head", "close") == [b"head", "close"]
    assert told(b"head", b"body", "close") == [b"headbody", "close"]
