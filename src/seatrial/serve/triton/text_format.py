"""Protobuf's text format, as ``config.pbtxt`` of Triton is written in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

# Number of characters of one level of indentation.
INDENT = 2


class Word(str):
    """A value that is written without quotes: a name of an enumeration."""

    __slots__ = ()


class MapField(dict[str, object]):
    """A map field: each entry is a message with ``key`` and ``value``."""


def to_text(message: Mapping[str, object]) -> str:
    """A message in the text format, a field a line.

    Args:
        message: Field -> value: a string, a `Word`, a number, a boolean, a message (a mapping), a
            `MapField`, or a list of them for a repeated field.

    Raises:
        TypeError: A value is none of these.
        ValueError: A `Word` is no name.
    """
    return "".join(line + "\n" for line in _fields(message, 0))


def _fields(message: Mapping[str, object], level: int) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, MapField):
            for key, one in value.items():
                yield from _field(name, {"key": key, "value": one}, level)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for one in value:
                yield from _field(name, one, level)
        else:
            yield from _field(name, value, level)


def _field(name: str, value: object, level: int) -> Iterator[str]:
    indent = " " * (INDENT * level)
    if isinstance(value, Mapping):
        yield f"{indent}{name} {{"
        yield from _fields(value, level + 1)
        yield f"{indent}}}"
    else:
        yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word):
        if not value.isidentifier():  # it stands without quotes
            raise ValueError(f"{value!r} names no value of an enumeration")
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value)) + '"'
    raise TypeError(f"{type(value).__name__} has no form in protobuf's text format")


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else _octal(character)


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
