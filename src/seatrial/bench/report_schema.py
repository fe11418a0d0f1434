"""The JSON Schema of a benchmark's report, with the words of the docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

from seatrial.bench.report_data import SCHEMA, BenchReport

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def report_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of ``report.json``; every attribute has the words of its docstring.

    Keys that a reader does not know may be added within a version, and none are taken away.
    """
    (found,), definitions = msgspec.json.schema_components(
        (BenchReport,), ref_template="#/$defs/{name}"
    )
    words = {kind.__name__: kind for kind in _structs(BenchReport, set())}
    for name, definition in definitions.items():
        if name in words:
            _describe(definition, words[name])
    definitions["BenchReport"]["properties"]["schema"]["const"] = SCHEMA
    return {
        "$schema": DIALECT,
        "$id": f"urn:{SCHEMA.replace('.', ':').replace('/', ':')}",
        "title": f"Report of seatrial bench, {SCHEMA}",
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
