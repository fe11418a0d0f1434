"""Schemas of structs with the texts of their docstrings."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.serve.protocols.openapi_schemas import schemas_of


class Inner(msgspec.Struct):
    """An inner thing."""

    size: int


class Outer(msgspec.Struct):
    """An outer thing, with ``code``.

    More of it.

    Attributes:
        inner: First line,
            and second one.
        names: Names.
    """

    inner: list[Inner]
    names: tuple[str, ...] = ()


def test_texts_and_references() -> None:
    found: dict[str, Any] = schemas_of([Outer])
    assert set(found) == {"Outer", "Inner"}
    outer = found["Outer"]
    assert outer["description"] == "An outer thing, with `code`."
    assert outer["properties"]["inner"]["description"] == "First line, and second one."
    assert outer["properties"]["inner"]["items"] == {"$ref": "#/components/schemas/Inner"}
    assert outer["properties"]["names"]["default"] == []
    assert outer["required"] == ["inner"]
    assert found["Inner"]["description"] == "An inner thing."
