"""Faults of labelled sets: a row for each kind, and one for each case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.errors import InvalidDataset
from seatrial.system.images import upright_size

Severity = Literal["error", "warning"]


class IssueKind(msgspec.Struct, frozen=True):
    """A kind of issue.

    Attributes:
        severity: An error spoils training or figures; a warning can be intended.
        title: Name in a table.
        remedy: What to do about it.
    """

    severity: Severity
    title: str
    remedy: str


ISSUE_KINDS = {
    "labels-unreadable": IssueKind("error", "labels that cannot be read", "export them again"),
    "id-twice": IssueKind(
        "error", "ids used twice", "files were merged without new ids: export again"
    ),
    "unknown-class": IssueKind(
        "error", "unknown classes", "list the class, or correct the label; YOLO counts from 0"
    ),
    "classes-differ": IssueKind(
        "error",
        "classes numbered differently in two splits",
        "give a class the same number in all splits",
    ),
    "orphaned-labels": IssueKind(
        "error", "labels without an image", "add the images, or remove the labels"
    ),
    "missing-annotation": IssueKind(
        "error", "missing label files", "add them, or take their names off the list"
    ),
    "missing-image": IssueKind("error", "missing images", "add them to the folder"),
    "broken-image": IssueKind("error", "damaged images", "replace or remove them"),
    "foreign-image": IssueKind(
        "error", "images in unsupported formats", "convert them to JPEG, PNG or WebP"
    ),
    "size-differs": IssueKind(
        "error",
        "images of another size than their labels say",
        "draw the labels on the image as it is shown",
    ),
    "box-empty": IssueKind("error", "boxes without an area", "remove them, or draw them again"),
    "box-outside": IssueKind("error", "boxes outside their image", "clip or correct them"),
    "no-labels": IssueKind("error", "splits without any label", "check the path of the folder"),
    "leak": IssueKind("error", "the same image in two splits", "split again: seatrial data split"),
    "near-leak": IssueKind(
        "warning", "nearly the same image in two splits", "split by group: seatrial data split"
    ),
    "duplicate-image": IssueKind("warning", "the same image twice in a split", "remove one"),
    "duplicate-box": IssueKind("warning", "the same box twice", "remove one"),
    "mixed-rows": IssueKind(
        "warning", "boxes and outlines in one file", "write one kind of row in a file"
    ),
    "missing-labels": IssueKind(
        "warning", "images without labels", "label them; without objects they are background"
    ),
    "alike-classes": IssueKind("warning", "classes with similar names", "merge them"),
    "empty-class": IssueKind(
        "warning", "classes without an object", "label some, or remove the class"
    ),
}


class LabelIssue(msgspec.Struct, frozen=True):
    """One case of something that is wrong.

    Attributes:
        kind: One of `ISSUE_KINDS`.
        where: The file, with the line or the annotation id where there is one.
        message: What is wrong there.
    """

    kind: str
    where: str
    message: str

    @property
    def severity(self) -> Severity:
        """Severity of the kind."""
        return ISSUE_KINDS[self.kind].severity


OnIssue = Callable[[LabelIssue], None]
"""Called with each issue; it can raise to end the reading."""


def size_or_issue(file: Path, on_issue: OnIssue) -> tuple[int, int] | tuple[None, None]:
    """Upright (width, height) of an image; None where the file is not there or damaged."""
    if not file.is_file():
        return None, None
    try:
        return upright_size(file)
    except InvalidDataset as error:
        on_issue(LabelIssue("broken-image", str(file), error.message.removeprefix(f"{file} is ")))
        return None, None


def refuse(issue: LabelIssue) -> None:
    """The strict `OnIssue`: the first error ends the reading.

    Raises:
        InvalidDataset: The issue is an error.
    """
    if issue.severity == "error":
        raise InvalidDataset(
            f"{issue.where}: {issue.message}",
            hint=f"{ISSUE_KINDS[issue.kind].remedy}; seatrial data check lists all issues",
        )
