"""JSON schemas of structs, with what their docstrings say of their fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

REF = "#/components/schemas/{name}"
# "    name: Text of a field,\n        which may go on." below "Attributes:".
_FIELD = re.compile(r"^    (\w+): (.*(?:\n {8,}\S.*)*)", re.MULTILINE)


def schemas_of(kinds: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schemas of structs and of those in them, by name."""
    _, made = msgspec.json.schema_components(kinds, ref_template=REF)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))  # tuples become lists
    documented = {kind.__name__: kind for kind in _all(kinds)}
    for name, schema in found.items():
        _describe(schema, documented.get(name))
    return found


def _all(kinds: Sequence[type]) -> list[type]:
    """The structs, and those that their fields have."""
    seen: list[type] = []
    waiting: list[Any] = list(kinds)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in seen:
                seen.append(kind)
                waiting += [field.type for field in msgspec.structs.fields(kind)]
        else:
            waiting += getattr(kind, "__args__", ())
    return seen


def _describe(schema: dict[str, Any], kind: type | None) -> None:
    """Put the first paragraph of the docstring and the text of each field into a schema."""
    schema.pop("description", None)
    text = inspect.getdoc(kind) if kind else None
    if not text:
        return
    head, _, fields = text.partition("Attributes:\n")
    schema["description"] = _plain(head.partition("\n\n")[0])
    for name, said in _FIELD.findall(fields):
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = _plain(said)


def _plain(text: str) -> str:
    """A text on one line, its code as Markdown has it."""
    return " ".join(text.replace("``", "`").split())
