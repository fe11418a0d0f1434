"""The one tree of errors.

    SeatrialError
    |-- InvalidInput              the caller's fault                     400   exit 2
    |   |-- UnsupportedImage      not a JPEG, PNG or WebP                415
    |   |-- InvalidImage          an image that cannot be decoded        422
    |   |-- InputTooSlow          a body that does not arrive            408
    |   |-- InputTooLarge         body or picture over the limit         413
    |   |-- InvalidConfig         a TOML file or an option is wrong      400
    |   `-- InvalidDataset        a folder that cannot be measured on    400
    |-- InvalidArtifact           a model file or a folder is not usable  500  exit 3
    |   |-- UnknownFamily         the file is sound, the layout unknown
    |   `-- Diverged              it does not answer as its parent does
    |-- MissingExtra              a package is not installed              500  exit 4
    |   `-- BrokenExtra           it is installed and does not import
    |-- DeviceUnavailable         the device asked for is not there       500  exit 4
    |-- SourceUnavailable         a registry or hub cannot be reached     502  exit 5
    |-- ServiceFailed             the service did not start or answer     502  exit 6
    |   `-- PortInUse             somebody else listens there
    |-- NotWritable               a folder to write to is full or shut     500  exit 7
    |-- TrainingFailed            a finetuning went wrong             500  exit 10
    |   `-- OutOfMemory           it needs more memory than there is
    |-- Overloaded                the queue is full; try again later      503
    `-- DeadlineExceeded          not answered within the limit           504

Every error says what was wrong, with which input, and (``hint``) what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class SeatrialError(Exception):
    """Base of all errors that Seatrial raises on purpose.

    Args:
        message: What was wrong and with which input; one sentence.
        hint: What to do next; shown on a line of its own.
    """

    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """Name of the kind of error, stable across releases: the class name."""
        return type(self).__name__


class InvalidInput(SeatrialError):
    """The caller sent something that cannot be worked on."""

    http_status = 400
    exit_code = 2


class UnsupportedImage(InvalidInput):
    """The bytes are not one of the image formats that are decoded."""

    http_status = 415


class InvalidImage(InvalidInput):
    """The bytes start like an image and cannot be decoded as one."""

    http_status = 422


class InputTooSlow(InvalidInput):
    """The body of a request was not sent within the time limit."""

    http_status = 408


class InputTooLarge(InvalidInput):
    """A body or a picture is over the limit."""

    http_status = 413


class InvalidConfig(InvalidInput):
    """A configuration file or an option has a wrong key or value."""


class InvalidDataset(InvalidInput):
    """A folder of images or labels cannot be used."""


class InvalidArtifact(SeatrialError):
    """A model file or an artifact folder is missing, broken or not a detector."""

    exit_code = 3


class UnknownFamily(InvalidArtifact):
    """The model file is sound, but no family knows its inputs and outputs."""


class Diverged(InvalidArtifact):
    """A model that was made of another does not answer as that one does; it was not kept.

    Args:
        message: What is out of tolerance.
        hint: What to do next.
        report: The comparison, where there is one: a struct that msgspec encodes.
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
    """The device or precision that was asked for cannot be had; nothing ran elsewhere."""

    exit_code = 4


class SourceUnavailable(SeatrialError):
    """A package registry, hub or file that a model comes from cannot be reached."""

    http_status = 502
    exit_code = 5


class ServiceFailed(SeatrialError):
    """A service did not start, or did not answer as one of ours."""

    http_status = 502
    exit_code = 6


class PortInUse(ServiceFailed):
    """Another process listens on the address."""


class NotWritable(SeatrialError):
    """A folder cannot be written: no permission, no space left, not a folder."""

    exit_code = 7


class TrainingFailed(SeatrialError):
    """A finetuning went wrong; the message names the likely cause."""

    exit_code = 10


class OutOfMemory(TrainingFailed):
    """A training step needs more memory than there is."""


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
