"""Files of labelling tools and tasks that are not read here, named so that a person knows why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from seatrial.config import UNDECODABLE, readable
from seatrial.datasets.labels import split_named
from seatrial.datasets.voc_files import Unusable, read_file
from seatrial.errors import InvalidInput
from seatrial.system.images import image_files, is_macos_file
from seatrial.system.text import decode_text, read_text

HEAD_BYTES = 65536
MOST_FILES = 200  # of each ending, that are looked into
BY_CONTENT = frozenset({".json", ".yaml", ".yml"})  # endings of files that hold labels by content
EXPORT = "export as COCO, YOLO or Pascal VOC from the tool"
# Ending, a pattern in the head of the file, what it is, what to do.
_SIGNS = (
    (".xml", r"<annotations>", "annotations of CVAT for images", EXPORT),
    (".json", r'"imagePath"\s*:', "labels of LabelMe", EXPORT),
    (".json", '"_via_img_metadata"', "labels of VIA", EXPORT),
    (".json", r'"regions"\s*:.*"shape_attributes"', "labels of VIA", EXPORT),
    (".json", r'^\s*\[\s*\{.*"(?:annotations|completions)"\s*:.*"result"', "tasks of Label Studio",
     EXPORT),
    (".json", r'^\s*\[\s*\{.*"image".*"annotations".*"coordinates"', "labels of Create ML", EXPORT),
    (".json", r'"fo_id"|"samples"\s*:\s*\[', "a dataset of FiftyOne", EXPORT),
    (".json", r'"image_id".*"category_id".*"score"', "detections in COCO's format, not labels",
     "give the file of the labels with --annotations"),
    (".csv", r"(?i)xmin|x_min|bbox|ImageID", "labels as CSV", EXPORT),
    (".tfrecord", "", "TFRecords", EXPORT),
    (".ndjson", "", "a dataset in Ultralytics' NDJSON", "export as YOLO or COCO from the tool"),
    (".jsonl", r'"(?:objects|bbox|boxes|annotations)"', "labels as JSON lines", EXPORT),
)  # fmt: skip


def described(folder: Path) -> tuple[str, str]:
    """A guess what a folder without a known format holds, and a remedy; both can be empty.

    Args:
        folder: Folder of a dataset.
    """
    for path in _files(folder):
        for ending, pattern, what, remedy in _SIGNS:
            if path.suffix.lower() == ending and _in_turn(pattern, _head(path)):
                return f"{path.name} has {what}", remedy
    for path in _files(folder):
        if fault := _fault(path):
            return fault
    inner = [home for home in sorted(folder.glob("*")) if home.is_dir() and not _holds_labels(home)]
    classes = [home for home in inner if image_files(home, foreign=False)]
    named = [home for home in classes if split_named(home.name)]
    if named and all(any(part.is_dir() for part in home.iterdir()) for home in named):
        return "its images lie in a folder for each class", (
            "such a set says what an image shows, not where: draw boxes, for example with "
            "seatrial data label"
        )
    if len(classes) > 1 and not named:
        return "its images lie in folders, perhaps one for each class, without labels", (
            "draw boxes, for example with seatrial data label"
        )
    if image_files(folder, foreign=False):
        return "it holds images without labels", "draw boxes, for example with seatrial data label"
    deeper = [home for home in inner if any(home.glob("*"))]
    return "", f"give the folder that holds them, perhaps {deeper[0]}" if deeper else ""


def _fault(path: Path) -> tuple[str, str] | None:
    """Why a file that could hold labels cannot be used, and what to do about it."""
    ending = path.suffix.lower()
    if ending == ".xml":
        found = read_file(path)
        if isinstance(found, Unusable):
            where = "" if found.message.startswith(str(path)) else f"{found.where}: "
            return f"{where}{found.message}", found.remedy
        return None
    if ending not in BY_CONTENT:
        return None
    try:
        text = read_text(path)
    except InvalidInput as error:
        return error.message, error.hint
    if ending == ".json":
        try:
            msgspec.json.decode(text)
        except UNDECODABLE as error:
            return f"{path} is not JSON: {readable(error, dict)}", "copy the file again"
    return None


def _in_turn(pattern: str, text: str) -> bool:
    """Whether the parts of a pattern, between ``.*``, come in a text one behind the other.

    Each is looked for once: a regular expression tries all pairs of two parts before it gives up.
    """
    place = 0
    for part in pattern.split(".*"):
        found = re.compile(part).search(text, place)
        if found is None:
            return False
        place = found.end()
    return True


def _files(folder: Path) -> Iterator[Path]:
    """Files in which labels can be: in the folder, in its folders, few of each ending."""
    seen: dict[str, int] = {}
    for path in (*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))):
        ending = path.suffix.lower()
        seen[ending] = seen.get(ending, 0) + 1
        if seen[ending] <= MOST_FILES and path.is_file() and not is_macos_file(path):
            yield path


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(HEAD_BYTES)
    except OSError:
        return ""
    try:
        return decode_text(data, origin=path)
    except InvalidInput:  # not text, or cut within a character
        return data.decode("utf-8", "replace")


def _holds_labels(folder: Path) -> bool:
    endings = (".txt", ".xml", ".json")
    return any(path.suffix.lower() in endings for path in folder.glob("*"))
