"""The tree of errors.

    SeatrialError                                                      HTTP gRPC               exit
    |-- InvalidInput          the caller sent or wrote something wrong 400  INVALID_ARGUMENT    2
    |   |-- Unauthorized      the service needs a token, or another    401  UNAUTHENTICATED     2
    |   |-- NotSwapped        a service keeps the model that it has   409  FAILED_PRECONDITION 8
    |   |-- NotServed         the service has no such model            404  NOT_FOUND           2
    |   |-- UnsupportedImage  the file is not a JPEG, PNG or WebP      415  INVALID_ARGUMENT    2
    |   |-- UnsupportedCoding the body is packed in another way        415  INVALID_ARGUMENT    2
    |   |-- InvalidImage      the image cannot be decoded              422  INVALID_ARGUMENT    2
    |   |-- InputTooSlow      the body does not arrive in time         408  DEADLINE_EXCEEDED   2
    |   |-- InputTooLarge     the body or image is over the limit      413  RESOURCE_EXHAUSTED  2
    |   |-- InvalidConfig     a TOML file or an option is wrong        400  INVALID_ARGUMENT    2
    |   `-- InvalidDataset    a folder of images or labels is unusable 400  INVALID_ARGUMENT    2
    |-- InvalidArtifact       a model file or folder is unusable       500  INTERNAL            3
    |   |-- UnknownFamily     the file is sound, its layout unknown    500  INTERNAL            3
    |   `-- Diverged          a model differs from its parent          500  INTERNAL            8
    |-- MissingExtra          a package is not installed               500  INTERNAL            4
    |   `-- BrokenExtra       a package is installed, import fails     500  INTERNAL            4
    |-- DeviceUnavailable     the requested device is not available    500  INTERNAL            4
    |-- SourceUnavailable     a registry or hub cannot be reached      502  UNAVAILABLE         5
    |-- ServiceFailed         a service did not start or answer        502  UNAVAILABLE         6
    |   `-- PortInUse         another process listens on the address   502  UNAVAILABLE         6
    |-- GeneratorFailed       a process that sends a load ended      500  INTERNAL            6
    |-- EngineFailed          an engine raised, or did not end         500  INTERNAL            6
    |-- NotWritable           a folder or disk cannot be written       500  INTERNAL            7
    |-- TrainingFailed        a finetuning failed                      500  INTERNAL            10
    |   `-- OutOfMemory       a training step needs more memory        500  INTERNAL            10
    |-- Overloaded            too much to do; try again later          503  UNAVAILABLE         6
    `-- DeadlineExceeded      a request was not answered in time       504  DEADLINE_EXCEEDED   6

Every error says what was wrong and with which input; its ``hint`` says what to do next.
"""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Iterable, Iterator
from typing import ClassVar

LONGEST_MESSAGE = 4000  # characters: a message can name a text of a file, of any length
GATE_FAILS = 8  # exit code: measured, and the gate, the contract or the check does not hold


class SeatrialError(Exception):
    """Base of all errors that Seatrial raises.

    Args:
        message: One sentence: what was wrong, and with which input.
        hint: What to do next; printed on its own line.
    """

    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"  # name of a gRPC status code
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = shortened(message, LONGEST_MESSAGE)
        self.hint = shortened(hint, LONGEST_MESSAGE)
        super().__init__(self.message)

    @property
    def code(self) -> str:
        """Name of the class; it stays the same across releases."""
        return type(self).__name__


class InvalidInput(SeatrialError):
    """The caller sent something that cannot be processed."""

    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 2


class Unauthorized(InvalidInput):
    """The service needs a token, and the request has none that it knows."""

    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class NotServed(InvalidInput):
    """The service has no model of that name, or no such version of it."""

    http_status = 404
    grpc_status = "NOT_FOUND"


class UnsupportedImage(InvalidInput):
    """The bytes are not in a known image format."""

    http_status = 415


class UnsupportedCoding(InvalidInput):
    """The body of a request has a content coding that is not unpacked."""

    http_status = 415


class InvalidImage(InvalidInput):
    """The bytes begin like an image and cannot be decoded."""

    http_status = 422


class InputTooSlow(InvalidInput):
    """The body of a request was not sent within the time limit."""

    http_status = 408
    grpc_status = "DEADLINE_EXCEEDED"


class InputTooLarge(InvalidInput):
    """A request body or an image is over the limit."""

    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class InvalidConfig(InvalidInput):
    """A configuration file or an option has a wrong key or value."""


class InvalidDataset(InvalidInput):
    """A folder of images or labels cannot be used."""


class InvalidArtifact(SeatrialError):
    """A model file or an artifact folder is missing, broken or not a detector."""

    exit_code = 3


class UnknownFamily(InvalidArtifact):
    """The model file is sound, but no family supports its inputs and outputs."""


class Diverged(InvalidArtifact):
    """A model differs from its parent by more than is allowed; it was not kept.

    Args:
        message: What is out of tolerance.
        hint: What to do next.
        report: The comparison as a struct that msgspec encodes; None where there is none.
    """

    exit_code = GATE_FAILS

    def __init__(self, message: str, *, hint: str = "", report: object = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class MissingExtra(SeatrialError):
    """An optional package is not installed."""

    exit_code = 4


class BrokenExtra(MissingExtra):
    """An optional package is installed and does not import."""


class DeviceUnavailable(SeatrialError):
    """The requested device or precision is not available; nothing ran elsewhere."""

    exit_code = 4


class SourceUnavailable(SeatrialError):
    """A package registry, hub or file that a model comes from cannot be reached."""

    http_status = 502
    grpc_status = "UNAVAILABLE"
    exit_code = 5


class ServiceFailed(SeatrialError):
    """A service did not start, or did not answer as a Seatrial service does."""

    http_status = 502
    grpc_status = "UNAVAILABLE"
    exit_code = 6


class PortInUse(ServiceFailed):
    """Another process listens on the address."""


class GeneratorFailed(SeatrialError):
    """A process that sends a load, or measures how it is sent, did not start, or ended early."""

    exit_code = 6


class EngineFailed(SeatrialError):
    """The engine raised an error on a request, or did not end its run.

    Args:
        message: See `SeatrialError`.
        hint: See `SeatrialError`.
        cause: What the engine says, behind the message. It may name files of the machine: a
            service tells its clients the message alone, which is ``public``.
    """

    exit_code = 6

    def __init__(self, message: str, *, hint: str = "", cause: str = "") -> None:
        super().__init__(f"{message}: {cause}" if cause else message, hint=hint)
        self.public = shortened(message, LONGEST_MESSAGE)


class NotSwapped(InvalidInput):
    """A service does not serve another artifact: it serves on what it served."""

    http_status = 409
    grpc_status = "FAILED_PRECONDITION"
    exit_code = GATE_FAILS


class NotWritable(SeatrialError):
    """A file or folder cannot be written: no permission, no space left, not a folder."""

    exit_code = 7


class TrainingFailed(SeatrialError):
    """A finetuning failed; the message names the likely cause."""

    exit_code = 10


class OutOfMemory(TrainingFailed):
    """A training step needs more memory than the machine has."""


class Overloaded(SeatrialError):
    """The service has too much to do; the request was refused before any work was done on it.

    Args:
        message: See `SeatrialError`.
        hint: See `SeatrialError`.
        reason: ``deadline``, ``queue``, ``bytes``, ``lanes``, ``pixels`` or ``memory``: what it
            would have exceeded; ``slow`` where its body was long in coming, ``drain`` where the
            service ended first; empty where a client does not know.
        wait_s: Seconds after which its answer was foretold.
    """

    http_status = 503
    grpc_status = "UNAVAILABLE"
    exit_code = 6

    def __init__(
        self, message: str, *, hint: str = "", reason: str = "queue", wait_s: float = 1.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.wait_s = wait_s


class DeadlineExceeded(SeatrialError):
    """The request was not answered within the time limit.

    Attributes:
        asked: Whether the request itself named that limit.
    """

    asked = False

    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    exit_code = 6


def first_line(error: object) -> str:
    """First line of an error or a text, 300 characters at most; an empty error's type."""
    text = str(error).strip()
    return text.splitlines()[0].strip()[:300] if text else type(error).__name__


class _Outline(reprlib.Repr):
    """Values as Python writes them, with the first few things of each and two levels of them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 6, 6, 4
        self.maxstring = self.maxother = self.maxlong = 1000

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # Python does not write so many digits
            return f"a number of {x.bit_length()} bits"


_OUTLINE = _Outline()
# Share of letters that makes a name near: at 0.55 "content_type" were near "confidence". And the
# shortest beginning of a name that is near whatever its share.
_NEAR, _SHORTENED = 0.6, 2


# Characters that a terminal obeys, as the symbols that Unicode has for them; C1 has none.
_SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}

_LINE_ENDS = dict.fromkeys(map(ord, "\n\u2028\u2029"), "\N{SYMBOL FOR NEWLINE}")


def visible(text: str) -> str:
    """A text that no terminal obeys: names in files of others may hold escape sequences."""
    return text.translate(_SYMBOLS)


def in_one_line(text: str) -> str:
    """A `visible` text without an end of a line, which would forge another line of a log."""
    return visible(text).translate(_LINE_ENDS)


def shortened(text: str, limit: int) -> str:
    """A text of `limit` characters at most, without its middle where it is longer."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"


def shown(value: object, limit: int = 100) -> str:
    """A value of a file for a message: as Python writes it, with few of the things in it.

    What a value would print can be far larger than the file that it comes from: a list that refers
    to other lists, in YAML, has any number of them.
    """
    return shortened(_OUTLINE.repr(value), limit)


@contextlib.contextmanager
def naming(what: object) -> Iterator[None]:
    """Put the name of an input before the messages of the errors about it."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(f"{what}: {error.message}", hint=error.hint) from error


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """The hint for an unknown name: the nearest of the known ones, or `otherwise`.

    A name is near where most of its letters are those of the word, in their order, or where the
    word is how it begins.
    """
    import difflib

    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=_NEAR)
    if len(word) >= _SHORTENED:
        near += [name for name in names if name.startswith(word)]
    return f"did you mean {near[0]!r}?" if near else otherwise
