"""Configuration decoded into frozen structs, with errors that say what to change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec

from seatrial.errors import InvalidConfig

T = TypeVar("T")
Positive = Annotated[int, msgspec.Meta(ge=1)]
# A larger number is a typing error that would exhaust the machine.
Few = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
_WRONG = re.compile(
    r"Expected `(?P<kind>[^`]*)`(?P<range> [<>]=? \S+)?(?:, got `(?P<got>[^`]*)`)?"
    r" - at `\$\.(?P<path>[^`]*)`$"
)
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$(?P<path>[^`]*)`)?")


def decode_toml(data: bytes, kind: type[T], *, origin: str) -> T:
    """Decode TOML into a struct; an unknown key is an error that names the nearest one.

    Args:
        data: The TOML document.
        kind: A msgspec struct class with ``forbid_unknown_fields``.
        origin: The file's name, for the error.

    Raises:
        InvalidConfig: The document is not TOML, a key is unknown, or a value is out of range or
            of the wrong type.
    """
    try:
        return msgspec.toml.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _explain(error, kind, origin) from error


def decode_json(data: bytes, kind: type[T], *, origin: str) -> T:
    """Decode JSON into a struct; with the rules and errors of `decode_toml`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _explain(error, kind, origin) from error


def from_builtins(plain: Mapping[str, Any], kind: type[T], *, origin: str) -> T:
    """Convert plain values into a struct; same rules and errors as `decode_toml`."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise _explain(error, kind, origin) from error


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a struct; see `decode_toml`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror}") from error
    return decode_toml(data, kind, origin=str(path))


def encode_toml(struct: msgspec.Struct, comments: Mapping[str, str] | None = None) -> str:
    """Write a struct as TOML that `decode_toml` reads back.

    Args:
        struct: Struct of plain values and, for tables, of structs; None is left out.
        comments: Key, or ``table.key`` in a table -> comment behind the value.
    """
    plain: dict[str, Any] = msgspec.to_builtins(struct)
    notes = comments or {}
    tables = {key: value for key, value in plain.items() if isinstance(value, dict)}
    parts = [_pairs({k: v for k, v in plain.items() if k not in tables}, "", notes)]
    parts += [f"[{key}]\n{_pairs(table, f'{key}.', notes)}" for key, table in tables.items()]
    return "\n".join(parts)


def _pairs(table: dict[str, Any], prefix: str, comments: Mapping[str, str]) -> str:
    lines = []
    for key, value in table.items():
        if value is None:
            continue
        # JSON and TOML write strings, numbers, booleans and lists alike.
        line = f"{key} = {msgspec.json.encode(value).decode()}"
        note = comments.get(f"{prefix}{key}")
        lines.append(f"{line:<40} # {note}\n" if note else f"{line}\n")
    return "".join(lines)


def readable(error: Exception) -> str:
    """An error of msgspec about a value, as a sentence that begins with the key."""
    wrong = _WRONG.match(str(error))
    if wrong is None:
        return str(error)
    kinds = [kind for kind in wrong["kind"].split(" | ") if kind != "null"]
    must = " or ".join(_KINDS.get(kind, kind) for kind in kinds) + (wrong["range"] or "")
    got = f", not {_KINDS.get(wrong['got'], wrong['got'])}" if wrong["got"] else ""
    return f"{wrong['path']} must be {must}{got}"


def _explain(error: Exception, kind: type[Any], origin: str) -> InvalidConfig:
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        return InvalidConfig(f"{origin}: {readable(error)}")
    path = [part for part in (unknown["path"] or "").split(".") if part]
    known = _fields_at(kind, [part.partition("[")[0] for part in path])  # lists: of any item
    nearest = difflib.get_close_matches(unknown["field"], known, n=1, cutoff=0.5)
    key = ".".join([*path, unknown["field"]])
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return InvalidConfig(f"{origin}: unknown key {key!r}", hint=hint)


def _fields_at(kind: Any, path: list[str]) -> list[str]:
    for part in path:
        field = next((f for f in msgspec.structs.fields(kind) if f.encode_name == part), None)
        if field is None:
            return []
        kind = next(
            (t for t in (field.type, *get_args(field.type)) if hasattr(t, "__struct_fields__")),
            None,
        )
        if kind is None:
            return []
    return [f.encode_name for f in msgspec.structs.fields(kind)]
