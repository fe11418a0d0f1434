"""Who is told of requests that have their answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from seatrial.serve.reporting import Reporting
from seatrial.serve.trace_context import Trace, traced


def told(app: Any, trace: Trace) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []

    async def send(message: Any) -> None:
        pass

    async def run() -> None:
        scope = {"type": "http", "headers": [], "method": "GET", "path": "/"}
        reporting = Reporting(app, [lambda scope, *facts: found.append(facts)])
        await reporting(scope, None, send)  # type: ignore[arg-type]

    with traced(trace):
        try:
            asyncio.run(run())
        except LookupError:
            found.append(("raised",))
    return found


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"de"})


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError


@pytest.mark.parametrize(
    ("app", "expected"), [(answers, [(201, 5)]), (raises, [(500, 0), ("raised",)])]
)
def test_a_request_is_told_once_with_its_status_and_size(app: Any, expected: Any) -> None:
    trace = Trace()
    found = told(app, trace)
    assert [facts[1:] if facts[0] is trace else facts for facts in found] == expected
