"""Label files of a YOLO folder: where that of an image lies, and those of no image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from seatrial.datasets.issues import LabelIssue, OnIssue
from seatrial.datasets.yolo_config import ROW, TOOLS_FILES
from seatrial.system.images import files_below, is_macos_file, only_images


def label_file_of(image: Path, *, beside: bool = False) -> Path:
    """Path of the labels: with ``labels`` for the last folder ``images``, and suffix ``.txt``.

    Args:
        image: Path of the image.
        beside: Whether a file beside the image is taken where there is none at that path.
    """
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    file, own = Path(*parts).with_suffix(".txt"), image.with_suffix(".txt")
    return own if beside and own != file and own.is_file() and not file.is_file() else file


def check_label_files(
    entries: Sequence[Path], images: Sequence[Path], on_issue: OnIssue, *, beside: bool = False
) -> None:
    """Make an issue of each label file without an image.

    Args:
        entries: Folders and lists of a split.
        images: The images in them, also those that cannot be read.
        on_issue: Called with each issue.
        beside: See `label_file_of`.
    """
    wanted = {label_file_of(image, beside=beside) for image in images}
    folders = {label_file_of(entry / "image").parent for entry in entries if entry.is_dir()}
    tried = {file for folder in folders for file in files_below(folder)}
    tried |= {file for folder in {w.parent for w in wanted} for file in folder.glob("*.txt")}
    # Of images that lie beside those of a list and are not in it, label files are no mistake.
    around = [] if folders else sorted({image.parent for image in images})
    unlisted = {label_file_of(path, beside=beside) for folder in around if folder.is_dir()
                for path in only_images(folder.iterdir()) if path.is_file()}  # fmt: skip
    strange = (file for file in sorted(tried - wanted - unlisted) if file.suffix == ".txt")
    orphans = [file for file in strange if file.is_file() and _can_hold_labels(file)]
    homes = {image.parent for image in images} | {entry for entry in entries if entry.is_dir()}
    reasons = _reasons(homes) if orphans else {}
    for file in orphans:
        why = reasons.get(file, "belongs to no image")
        on_issue(LabelIssue("orphaned-labels", str(file), why))


def _can_hold_labels(file: Path) -> bool:
    """Whether the first line is a row, or there is none: other text files lie beside labels."""
    if file.name in TOOLS_FILES or is_macos_file(file):
        return False
    try:
        data = file.read_bytes()
    except OSError:  # it can: nobody knows what it holds
        return True
    lines = data.replace(b"\0", b"").decode("latin-1").splitlines()
    first = next((line for line in lines if line.strip()), None)
    return first is None or bool(ROW.fullmatch(first.lstrip("\xef\xbb\xbf\xfe\xff")))


def _reasons(homes: Iterable[Path]) -> dict[Path, str]:
    """Label file -> why it has no image: what lies in the image's place, in some folders."""
    found: dict[Path, str] = {}
    for path in (
        path for home in sorted(homes) if home.is_dir() for path in sorted(home.iterdir())
    ):
        file = label_file_of(path) if path.suffix else path
        if file != path:
            found.setdefault(file, f"{path} is not read as an image")
    return found
