"""What can be wrong with a labelled set: one row for each thing that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn

import msgspec

from seatrial.errors import InvalidDataset

Severity = Literal["error", "warning"]


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding.

    Attributes:
        severity: An error spoils training or figures; a warning may be meant so.
        title: What it is called in a table.
        remedy: What to do about it.
    """

    severity: Severity
    title: str
    remedy: str


KINDS = {
    "labels-unreadable": Kind("error", "labels that cannot be read", "export them again"),
    "id-twice": Kind("error", "ids used twice", "the files were merged badly; export again"),
    "unknown-class": Kind(
        "error", "unknown classes", "list the class, or correct the label; YOLO counts from 0"
    ),
    "classes-differ": Kind(
        "error", "classes numbered differently in two splits", "number them alike"
    ),
    "orphaned-labels": Kind(
        "error", "labels without a picture", "complete the pictures, or remove the labels"
    ),
    "missing-annotation": Kind(
        "error", "label files that are not there", "complete them, or take the name off the list"
    ),
    "missing-image": Kind("error", "pictures that are not there", "complete the folder"),
    "broken-image": Kind("error", "broken pictures", "replace or remove them"),
    "foreign-image": Kind(
        "error", "pictures in formats that are not read", "convert them to JPEG, PNG or WebP"
    ),
    "size-differs": Kind(
        "error", "pictures of another size than labelled", "label the picture as it is shown"
    ),
    "box-empty": Kind("error", "boxes without an area", "remove them, or draw them again"),
    "box-outside": Kind("error", "boxes outside their picture", "clip or correct them"),
    "no-labels": Kind("error", "splits without any label", "check the folder that was given"),
    "leak": Kind("error", "the same picture in two splits", "split again: seatrial data split"),
    "near-leak": Kind(
        "warning", "nearly the same picture in two splits", "split by group: seatrial data split"
    ),
    "duplicate-image": Kind("warning", "the same picture twice in a split", "remove one"),
    "duplicate-box": Kind("warning", "the same box twice", "remove one"),
    "mixed-rows": Kind("warning", "boxes and outlines in one file", "write one sort of row"),
    "missing-labels": Kind(
        "warning", "pictures without labels", "label them; without objects they are background"
    ),
    "alike-classes": Kind("warning", "classes named alike", "make them one"),
    "empty-class": Kind(
        "warning", "classes without an object", "label some, or take the class out"
    ),
}


class LabelIssue(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        kind: One of `KINDS`.
        where: The file, and the line or annotation id in it where there is one.
        message: What is wrong there.
    """

    kind: str
    where: str
    message: str

    @property
    def severity(self) -> Severity:
        """Of its kind."""
        return KINDS[self.kind].severity


Report = Callable[[LabelIssue], None]
"""Told of each finding; may raise to end the reading."""


def refuse(finding: LabelIssue) -> None:
    """The strict reading: the first error ends it.

    Raises:
        InvalidDataset: The finding is an error.
    """
    if finding.severity == "error":
        raise_finding(finding)


def raise_finding(finding: LabelIssue) -> NoReturn:
    """A finding as an exception."""
    raise InvalidDataset(
        f"{finding.where}: {finding.message}",
        hint=f"{KINDS[finding.kind].remedy}; seatrial data check lists all that is wrong",
    )
