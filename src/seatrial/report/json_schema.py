"""The JSON Schema of a document, with the words of the docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: type, version: str, command: str) -> dict[str, Any]:
    """JSON Schema 2020-12 of a document; every attribute has the words of its docstring.

    Keys that a reader does not know may be added within a version, and none are taken away.

    Args:
        kind: Class of the document; its attribute ``schema`` holds the version.
        version: Name and version of the document, as ``seatrial.bench/1``.
        command: The command that writes it.
    """
    (found,), definitions = msgspec.json.schema_components((kind,), ref_template="#/$defs/{name}")
    words = {one.__name__: one for one in _structs(kind, set())}
    for name, definition in definitions.items():
        if name in words:
            _describe(definition, words[name])
    definitions[kind.__name__]["properties"]["schema"]["const"] = version
    return {
        "$schema": DIALECT,
        "$id": f"urn:{version.replace('.', ':').replace('/', ':')}",
        "title": f"{command}, {version}",
        **found,
        "$defs": dict(sorted(definitions.items())),
    }


def attribute_words(kind: type) -> dict[str, str]:
    """The lines under ``Attributes:`` in the docstrings of a class and of those it extends."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        block = attributes.split("\n\n", 1)[0]
        # A deeper line goes on with the attribute above it.
        joined = re.sub(r"\n\s{5,}", " ", block)
        for line in joined.splitlines():
            name, colon, text = line.strip().partition(": ")
            if colon:
                found[name] = _plain(text)
    return found


def _describe(definition: dict[str, Any], kind: type) -> None:
    summary = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0]
    definition["description"] = _plain(" ".join(summary.split()))
    words = attribute_words(kind)
    tag = getattr(getattr(kind, "__struct_config__", None), "tag_field", None)
    if tag is not None:
        words.setdefault(tag, "Name of the kind.")
    for name, value in definition.get("properties", {}).items():
        if name in words:
            value["description"] = words[name]


def _plain(text: str) -> str:
    return text.replace("``", "`").strip()


def _structs(kind: Any, seen: set[Any]) -> Iterator[type]:
    """A class with attributes and all that its attributes are made of, each once."""
    for inner in get_args(kind):
        yield from _structs(inner, seen)
    known = dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__")
    if not isinstance(kind, type) or not known or kind in seen:
        return
    seen.add(kind)
    yield kind
    for hint in get_type_hints(kind).values():
        yield from _structs(hint, seen)
