"""Configuration decoded into frozen structs, with errors that say what to change."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from seatrial.errors import InvalidConfig, did_you_mean
from seatrial.system.files import beside, bounded_bytes
from seatrial.system.text import as_utf8

T = TypeVar("T")
MOST_BYTES = 2**26  # of a file of settings, or a report of ours
# What decoding raises: not the format, not the type, a number of 5000 digits, 5000 brackets.
UNDECODABLE = (msgspec.DecodeError, ValueError, RecursionError)
Positive = Annotated[int, msgspec.Meta(ge=1)]
# A larger number is a typing error that would exhaust the machine.
Few = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
_EMPTY = re.compile(r"Expected `str` of length >= 1 - at `\$\.(?P<path>[^`]*)`$")
_MISSING = re.compile(
    r"missing required field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?$"
)
_WRONG = re.compile(
    r"Expected `(?P<kind>[^`]*)`(?P<range> [<>]=? \S+)?(?:, got `(?P<got>[^`]*)`)?"
    r" - at `\$\.(?P<path>[^`]*)`$"
)
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip
_OUT_OF_RANGE = re.compile(r"(?:Number|Integer value) out of range - at `\$\.(?P<path>[^`]*)`$")
_INVALID = re.compile(r"Invalid enum value (?P<got>.*) - at `\$\.(?P<path>[^`]*)`$")
# What tomllib says of a key or table that is there again, and the lines in which one begins.
_TWICE = re.compile("^Cannot (?:overwrite|declare|mutate)|^Duplicate inline table key")
_HEADER = re.compile(r"\s*\[(?P<name>[^\[\]]+)\]\s*(?:#.*)?$")
_ITEM = re.compile(r"\s*\[\[(?P<name>[^\[\]]+)\]\]\s*(?:#.*)?$")
_PAIR = re.compile(r"\s*(?P<key>[A-Za-z0-9_.-]+)\s*=")
# Of the TOML parser: what follows a = is no value.
_NO_VALUE = re.compile(r"Invalid value|Expected newline or end of document after a statement")
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
    data = as_utf8(data, origin=origin, error=InvalidConfig)
    try:
        return msgspec.toml.decode(data, type=kind)
    except UNDECODABLE as error:
        explained = _explain(error, kind, origin, partial(tomllib.loads, data.decode()))
        if _TWICE.search(str(error)):
            explained.hint = _given_twice(data.decode())
        raise explained from error


def decode_json(data: bytes, kind: type[T], *, origin: str) -> T:
    """Decode JSON into a struct; with the rules and errors of `decode_toml`."""
    data = as_utf8(data, origin=origin, error=InvalidConfig)
    try:
        return msgspec.json.decode(data, type=kind)
    except UNDECODABLE as error:
        raise _explain(error, kind, origin, partial(msgspec.json.decode, data)) from error


def from_options(
    plain: Mapping[str, Any], kind: type[T], name: Callable[[str], str] = lambda key: key
) -> T:
    """Convert the options of a command or of a call into a struct.

    Args:
        plain: Values by key; tables are mappings.
        kind: See `decode_toml`.
        name: Takes a key without its table, gives the option's name for the error.

    Raises:
        InvalidConfig: An option is unknown, or its value is out of range or of the wrong type.
    """
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        if _UNKNOWN.search(str(error)):
            raise _explain(error, kind, "options", lambda: plain) from error
        message = readable(error, kind, lambda path: name(path.rpartition(".")[2]), lambda: plain)
        raise InvalidConfig(message) from error


def flag(key: str) -> str:
    """The option of a key on the command line: ``--point-s`` of ``point_s``."""
    return f"--{key.replace('_', '-')}"


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a struct; see `decode_toml`."""
    try:
        data = bounded_bytes(path, MOST_BYTES)
    except OSError as error:
        raise InvalidConfig(
            f"{path} cannot be read: {error.strerror}", hint=beside(path)
        ) from error
    return decode_toml(data, kind, origin=str(path))


def read_report(path: Path, kind: type[T], *, what: str, hint: str, schema: str = "") -> T:
    """Read the JSON of a report of ours into a struct.

    Args:
        path: The file.
        kind: The struct.
        what: What the file should be, for the message: ``benchmark report``.
        hint: What to give in its place.
        schema: Name and version that its key `schema` must have; empty: any.

    Raises:
        InvalidConfig: The file cannot be read, is no such report, or one of another version.
    """
    try:
        found = msgspec.json.decode(bounded_bytes(path, MOST_BYTES), type=kind)
    except OSError as error:
        raise InvalidConfig(
            f"{path} cannot be read: {error.strerror}", hint=beside(path, otherwise=hint)
        ) from error
    except UNDECODABLE as error:
        wrong = readable(error, kind)
        raise InvalidConfig(f"{path} is not a {what}: {wrong}", hint=hint) from error
    if schema and getattr(found, "schema", schema) != schema:
        told = str(getattr(found, "schema", ""))[:80]
        raise InvalidConfig(
            f"{path} has the schema {told!r}, and {schema!r} is read here",
            hint="another version of seatrial wrote it: read it with that one",
        )
    return found


def encode_json(value: Any) -> bytes:
    """Write a value as JSON for readers: indented, with a line end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


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
        # JSON and TOML write strings, numbers, booleans and lists alike, but for one character.
        text = msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
        line = f"{key} = {text}"
        note = comments.get(f"{prefix}{key}")
        lines.append(f"{line:<40} # {note}\n" if note else f"{line}\n")
    return "".join(lines)


def readable(
    error: Exception,
    kind: Any,
    name: Callable[[str], str] = lambda path: path,
    given: Callable[[], Any] = lambda: None,
) -> str:
    """An error of msgspec about a value, as a sentence that begins with the key.

    Args:
        error: Error of decoding or converting to `kind`.
        kind: A msgspec struct class.
        name: Takes the path of the key, ``layout.threads``, gives what the sentence calls it.
        given: Gives all that was decoded, as plain values; None where it is not known.
    """
    if (invalid := _INVALID.match(str(error))) is not None:
        *others, last = _values_at(kind, invalid["path"].split("."))
        values = f"{', '.join(others)} or {last}" if others else last
        return f"{name(invalid['path'])} must be {values}, not {invalid['got']}"
    if (empty := _EMPTY.match(str(error))) is not None:
        return f"{name(empty['path'])} is empty"
    if (missing := _MISSING.search(str(error))) is not None:
        path = ".".join(part for part in (missing["path"], missing["field"]) if part)
        return f"{name(path)} is missing"
    if isinstance(error, RecursionError):
        return "tables or lists are nested too deep"
    if "integer string conversion" in str(error):
        return "a number has too many digits"
    if (outside := _OUT_OF_RANGE.match(str(error))) is not None:
        return f"{name(outside['path'])} is out of the range of numbers"
    wrong = _WRONG.match(str(error))
    if wrong is None:
        message, at, path = str(error).partition(" - at `$")
        if not at:
            return message
        named = path.rstrip("`").strip(".")
        return f"{name(named)}: {message}" if named else message
    kinds = [kind for kind in wrong["kind"].split(" | ") if kind != "null"]
    must = " or ".join(_KINDS.get(kind, kind) for kind in kinds) + (wrong["range"] or "")
    got = f", not {_KINDS.get(wrong['got'], wrong['got'])}" if wrong["got"] else ""
    if (wrong["got"], kinds) == ("float", ["int"]):
        got = f", not {_value_at(given(), wrong['path'])}"  # a number it is
    return f"{name(wrong['path'])} must be {must}{got}"


def _value_at(plain: Any, path: str) -> str:
    """The number at a path; words for it where it is in a list."""
    for part in path.split("."):
        plain = plain.get(part) if isinstance(plain, Mapping) else None
    return "one with a decimal point" if plain is None else repr(plain)


def _given_twice(text: str) -> str:
    """Where a document gives a key or a table again: the parser names the place, but not always."""
    table, seen = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), start=1):
        if (item := _ITEM.match(line)) is not None:
            table = f"{item['name'].strip()} of line {number}"
            continue
        if (header := _HEADER.match(line)) is not None:
            table = what = header["name"].strip()
            key = f"[{table}]"
        elif (pair := _PAIR.match(line)) is not None:
            what = key = f"{table}.{pair['key']}" if table else pair["key"]
        else:
            continue
        if what in seen:
            return f"{key} is there in line {seen[what]} and again in line {number}: keep one"
        seen[what] = number
    return "a key or a table is there twice: keep one"


def _explain(
    error: Exception, kind: type[Any], origin: str, given: Callable[[], Any]
) -> InvalidConfig:
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        quotes = 'text needs quotes: key = "value"' if _NO_VALUE.match(str(error)) else ""
        return InvalidConfig(f"{origin}: {readable(error, kind, given=given)}", hint=quotes)
    path = [part for part in (unknown["path"] or "").split(".") if part]
    known = _fields_at(kind, path)
    key = ".".join([*path, unknown["field"]])
    hint = did_you_mean(unknown["field"], known, otherwise=f"known keys: {', '.join(known)}")
    return InvalidConfig(f"{origin}: unknown key {key!r}", hint=hint)


def _fields_at(kind: Any, path: list[str]) -> list[str]:
    structs = (t for t in _types_at(kind, path) if hasattr(t, "__struct_fields__"))
    return [f.encode_name for t in structs for f in msgspec.structs.fields(t)]


def _values_at(kind: Any, path: list[str]) -> list[str]:
    literals = (t for t in _types_at(kind, path) if get_origin(t) is Literal)
    return [str(value) for t in literals for value in get_args(t)]


def _types_at(kind: Any, path: list[str]) -> tuple[Any, ...]:
    """The type of a key, and the types that a union or a list of them has; none if unknown."""
    types: tuple[Any, ...] = (kind,)
    for part in path:
        structs = (t for t in types if hasattr(t, "__struct_fields__"))
        fields = (f for t in structs for f in msgspec.structs.fields(t))
        key = part.partition("[")[0]  # lists: any item
        field = next((f for f in fields if f.encode_name == key), None)
        if field is None:
            return ()
        types = (field.type, *get_args(field.type))
    return types
