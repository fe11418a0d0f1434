"""Text files that a person or a tool wrote: read in the encoding that they declare, as UTF-8 else.

UTF-8, UTF-16 and UTF-32 are read with and without a byte order mark. A file in a legacy code page
is refused: which of them it is cannot be told, and a guess would change names silently. So is one
with NUL characters, which no text has: it is in another encoding, or no text.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from seatrial.errors import InvalidInput, SeatrialError
from seatrial.system.files import bounded_bytes

MOST_BYTES = 2**28  # labels, lists and settings are far smaller

# UTF-32's mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


# Which of the first bytes of a text are 0 (RFC 4627, section 3).
_BY_ZEROS = {
    (True, True, True, False): "utf-32-be",
    (False, True, True, True): "utf-32-le",
    (True, False): "utf-16-be",
    (False, True): "utf-16-le",
}
# Codecs of Python that no other program writes text in.
_PYTHONS_OWN = frozenset(
    {"idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
)


def decode_text(
    data: bytes, *, origin: object, error: type[SeatrialError] = InvalidInput, declared: str = ""
) -> str:
    """The text of a file, without a byte order mark.

    Args:
        data: Content of the file.
        origin: Name of the file, for the error.
        error: Class of the error.
        declared: Encoding that the file says it has; a byte order mark goes before it, and so do
            first bytes that are 0, as only UTF-16 and UTF-32 have them.

    Raises:
        SeatrialError: An `error`: the bytes are not in the encoding, have NUL characters, or
            the encoding that the file declares is not known.
    """
    encoding, mark = _encoding(data, declared)
    hint = "save the file as UTF-8"
    if not _is_known(encoding):
        what = f"{origin} declares the encoding {encoding!r}"
        raise error(f"{what}, which is not known as one of text", hint=hint)
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as wrong:
        if not declared and encoding == "utf-8" and b"\0" in body:
            raise error(f"{origin} is not a text file", hint="name a file in UTF-8") from wrong
        before = body[: wrong.start].decode(encoding, "replace")
        place = f"{origin}, line {len(lines(before + ' '))}"
        if encoding != "utf-8" or declared:
            what = f"{place}: not {encoding.upper()}, which the file says it is"
            raise error(what, hint=hint) from wrong
        raise error(
            f"{place}: byte 0x{body[wrong.start]:02x} is not UTF-8; the file is in a "
            "legacy code page, such as Windows-1252 or GBK",
            hint="save it as UTF-8, for example with: iconv -f WINDOWS-1252 -t UTF-8",
        ) from wrong
    except UnicodeError as wrong:  # of codecs that do not say where
        raise error(
            f"{origin} is not {encoding.upper()}, which it says it is", hint=hint
        ) from wrong
    if (nul := text.find("\0")) >= 0:
        line = len(lines(text[:nul] + " "))
        raise error(f"{origin}, line {line}: a NUL character, which no text has", hint=hint)
    return text


def _is_known(encoding: str) -> bool:
    """Whether Python knows an encoding, and as one of text that other programs know too."""
    try:
        found = codecs.lookup(encoding)
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return False
    return found._is_text_encoding and found.name.replace("_", "-") not in _PYTHONS_OWN


def _encoding(data: bytes, declared: str) -> tuple[str, bytes]:
    """Name of the encoding, and the byte order mark that the data begins with."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name, mark
    # Text has no NUL characters, so these bytes are 0 where the first character is one of ASCII.
    zeros = tuple(not byte for byte in data[:4])
    return _BY_ZEROS.get(zeros) or _BY_ZEROS.get(zeros[:2]) or declared.lower() or "utf-8", b""


def read_text(path: Path, *, error: type[SeatrialError] = InvalidInput) -> str:
    """The text of a file; see `decode_text`.

    Raises:
        SeatrialError: An `error`: the file cannot be read, or is not text.
    """
    try:
        data = bounded_bytes(path, MOST_BYTES)
    except OSError as failed:
        raise error(f"{path} cannot be read: {failed.strerror}") from failed
    return decode_text(data, origin=path, error=error)


def as_utf8(data: bytes, *, origin: object, error: type[SeatrialError] = InvalidInput) -> bytes:
    """The bytes of a text in UTF-8 without a byte order mark, for a parser; see `decode_text`."""
    text = decode_text(data, origin=origin, error=error)
    # Most files are UTF-8 already; a large one is not copied.
    return data if _encoding(data, "") == ("utf-8", b"") else text.encode()


def lines(text: str) -> list[str]:
    """The lines of a text, which end with LF, CR LF or CR.

    `str.splitlines` also ends a line at a form feed or a Unicode separator, which names may hold.
    """
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if found[-1] == "" else found


def numbered_names(
    text: str, *, origin: object, error: type[SeatrialError] = InvalidInput
) -> tuple[str, ...]:
    """Names of classes as they are written, one a line, class 0 first.

    Blanks at the ends of a name are kept; empty lines at the end are left out.

    Args:
        text: The list.
        origin: Name of the file, for the error.
        error: Class of the error.

    Raises:
        SeatrialError: An `error`: an empty line stands between two names.
    """
    names = lines(text)
    while names and not names[-1].strip():
        names.pop()
    empty = next((number for number, name in enumerate(names, 1) if not name.strip()), 0)
    if empty:
        raise error(
            f"{origin}, line {empty} is empty: the classes behind it would get other numbers",
            hint="remove the line, or write the name of the class",
        )
    return tuple(names)


def plain(name: str) -> str:
    """A name for comparison: without case, underscores and repeated spaces."""
    return " ".join(name.casefold().replace("_", " ").split())
