"""The tree of errors.

    SeatrialError                                                        HTTP  exit code
    |-- InvalidInput              the caller sent or wrote something wrong  400   2
    |   |-- UnsupportedImage      the file is not a JPEG, PNG or WebP       415   2
    |   |-- InvalidImage          the image cannot be decoded               422   2
    |   |-- InputTooSlow          the body does not arrive in time          408   2
    |   |-- InputTooLarge         the body or image is over the limit       413   2
    |   |-- InvalidConfig         a TOML file or an option is wrong         400   2
    |   `-- InvalidDataset        a folder of images or labels is unusable  400   2
    |-- InvalidArtifact           a model file or folder is unusable        500   3
    |   |-- UnknownFamily         the file is sound, its layout unknown     500   3
    |   `-- Diverged              a model differs from its parent           500   3
    |-- MissingExtra              a package is not installed                500   4
    |   `-- BrokenExtra           a package is installed, import fails      500   4
    |-- DeviceUnavailable         the requested device is not available     500   4
    |-- SourceUnavailable         a registry or hub cannot be reached       502   5
    |-- ServiceFailed             a service did not start or answer         502   6
    |   `-- PortInUse             another process listens on the address    502   6
    |-- NotWritable               a folder or disk cannot be written        500   7
    |-- TrainingFailed            a finetuning failed                       500   10
    |   `-- OutOfMemory           a training step needs more memory         500   10
    |-- Overloaded                the queue is full; try again later        503   1
    `-- DeadlineExceeded          a request was not answered in time        504   1

Every error says what was wrong and with which input; its ``hint`` says what to do next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import ClassVar


class SeatrialError(Exception):
    """Base of all errors that Seatrial raises.

    Args:
        message: One sentence: what was wrong, and with which input.
        hint: What to do next; printed on its own line.
    """

    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """Name of the class; it stays the same across releases."""
        return type(self).__name__


class InvalidInput(SeatrialError):
    """The caller sent something that cannot be processed."""

    http_status = 400
    exit_code = 2


class UnsupportedImage(InvalidInput):
    """The bytes are not in a known image format."""

    http_status = 415


class InvalidImage(InvalidInput):
    """The bytes begin like an image and cannot be decoded."""

    http_status = 422


class InputTooSlow(InvalidInput):
    """The body of a request was not sent within the time limit."""

    http_status = 408


class InputTooLarge(InvalidInput):
    """A request body or an image is over the limit."""

    http_status = 413


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
    exit_code = 5


class ServiceFailed(SeatrialError):
    """A service did not start, or did not answer as a Seatrial service does."""

    http_status = 502
    exit_code = 6


class PortInUse(ServiceFailed):
    """Another process listens on the address."""


class NotWritable(SeatrialError):
    """A file or folder cannot be written: no permission, no space left, not a folder."""

    exit_code = 7


class TrainingFailed(SeatrialError):
    """A finetuning failed; the message names the likely cause."""

    exit_code = 10


class OutOfMemory(TrainingFailed):
    """A training step needs more memory than the machine has."""


class Overloaded(SeatrialError):
    """The queue is full; the request was refused before any work was done on it."""

    http_status = 503


class DeadlineExceeded(SeatrialError):
    """The request was not answered within the time limit."""

    http_status = 504


def first_line(error: object) -> str:
    """First line of an error or a text, 300 characters at most; an empty error's type."""
    text = str(error).strip()
    return text.splitlines()[0].strip()[:300] if text else type(error).__name__


@contextlib.contextmanager
def naming(what: object) -> Iterator[None]:
    """Put the name of an input before the messages of the errors about it."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(f"{what}: {error.message}", hint=error.hint) from error


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """The hint for an unknown name: the nearest of the known ones, or `otherwise`."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else otherwise
