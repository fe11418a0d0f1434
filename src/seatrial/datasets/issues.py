"""Faults of labelled sets: a row for each kind, and one for each case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.errors import InvalidDataset, shortened
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
    "labels-unreadable": IssueKind("error", "labels that cannot be read", "correct the file"),
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
    "image-twice": IssueKind(
        "error",
        "images that are labelled in two places",
        "keep one label file or one row for each image",
    ),
    "labels-shared": IssueKind(
        "error", "label files of two images", "give one of the images another name, with its labels"
    ),
    "class-twice": IssueKind("error", "classes of the same name", "merge them, or rename one"),
    "box-fractions": IssueKind(
        "error",
        "boxes that are fractions of their image",
        "multiply them by the images' sizes, or write YOLO labels",
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
    "class-unused": IssueKind(
        "warning",
        "classes without an object that have the name of another one",
        "none is needed: such a class is left out",
    ),
    "name-differs": IssueKind(
        "warning",
        "label files that name another image than the one of their own name",
        "correct <filename>; the image of the label file's own name is taken",
    ),
    "unlisted-labels": IssueKind(
        "warning",
        "labels that belong to no split",
        "if they are to count, add them to a list, or name their file or folder for a split",
    ),
    "extraneous-bytes": IssueKind(
        "warning",
        "JPEGs with bytes before their end that belong to no pixel",
        "none is needed: the images are whole",
    ),
    "missing-scans": IssueKind(
        "warning",
        "progressive JPEGs without all of their scans",
        "fetch them again: their pixels lack detail",
    ),
    "misnamed-image": IssueKind(
        "warning",
        "images in another format than their name says",
        "rename them; Seatrial goes by the content, other tools go by the name",
    ),
    "link-cycle": IssueKind(
        "warning", "links to a folder that they lie in", "remove them; they are not followed"
    ),
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


LONGEST_MESSAGE = 1000  # characters: a set can have an issue of every label
ALL_ISSUES = "seatrial data check lists all issues"  # end of each hint of `refuse`


class LabelIssue(msgspec.Struct, frozen=True):
    """One case of something that is wrong.

    Attributes:
        kind: One of `ISSUE_KINDS`.
        where: The file, with the line or the annotation id where there is one.
        message: What is wrong there.
        remedy: What to do about it, where that depends on the cause; else the kind's is meant.
    """

    kind: str
    where: str
    message: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if len(self.message) > LONGEST_MESSAGE:
            msgspec.structs.force_setattr(self, "message", shortened(self.message, LONGEST_MESSAGE))

    @property
    def severity(self) -> Severity:
        """Severity of the kind."""
        return ISSUE_KINDS[self.kind].severity

    @property
    def advice(self) -> str:
        """The remedy of the case; of the kind where the case has none."""
        return self.remedy or ISSUE_KINDS[self.kind].remedy


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
            hint=f"{issue.advice}; {ALL_ISSUES}",
        )
