"""Graphs in a folder, and the files that describe them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from seatrial.detect.families.huggingface import CONFIG, PREPROCESSOR, PROCESSOR
from seatrial.errors import InvalidArtifact
from seatrial.models.recognise import LABELS_FILE
from seatrial.system.files import open_file
from seatrial.system.text import read_text
from seatrial.system.yaml_text import read_yaml

NAMES = (CONFIG, PREPROCESSOR, PROCESSOR, LABELS_FILE)
# Folders that repositories on the hub keep graphs in, below the descriptions.
GRAPH_FOLDERS = ("onnx", "openvino")
METADATA_FILE = "metadata.yaml"  # Ultralytics; YOLOv5 names it like the model


def graphs_in(folder: Path) -> list[Path]:
    """The ONNX files and OpenVINO graphs in a folder, in order; none where it is not there."""
    return sorted([*folder.glob("*.onnx"), *(p for p in folder.glob("*.xml") if _is_ir(p))])


def _is_ir(file: Path) -> bool:
    """Whether an XML file is an OpenVINO IR, and not for example a label."""
    with contextlib.suppress(OSError), open_file(file) as opened:
        return b"<net " in opened.read(400)
    return False


def sidecars(path: Path) -> list[Path]:
    """The descriptions of a model file that can be read: beside it, or above a `GRAPH_FOLDERS`."""
    found = [path.with_name(name) for name in NAMES]
    if (folder := path.absolute().parent).name in GRAPH_FOLDERS:
        found = [file if file.is_file() else folder.parent / file.name for file in found]
    if path.suffix == ".xml":  # an ONNX file holds its metadata itself
        found += [path.with_name(METADATA_FILE), path.with_suffix(".yaml")]
    return [file for file in found if file.is_file() and os.access(file, os.R_OK)]


def texts(path: Path) -> dict[str, str]:
    """Facts in the files beside a model: name -> text, and the entries of its ``metadata.yaml``.

    Raises:
        InvalidArtifact: A file is not text, or its YAML is no table.
    """
    found: dict[str, str] = {}
    for file in sidecars(path):
        if file.name in NAMES:
            found[file.name] = read_text(file, error=InvalidArtifact)
        else:
            found |= _metadata(file)
    return found


def _metadata(file: Path) -> dict[str, str]:
    """Keys of a ``metadata.yaml`` and their values as Python writes them, as ONNX files hold them.

    Class names are text as it is written: ``no`` and ``007`` are names.
    """
    typed, written = (
        read_yaml(
            file,
            error=InvalidArtifact,
            extra="openvino",
            hint="export the model again, or remove the file and say what it said by options",
            as_written=as_written,
        )
        for as_written in (False, True)
    )
    if not isinstance(typed, dict) or not isinstance(written, dict):
        raise InvalidArtifact(f"{file} holds no table of metadata", hint="export it again")
    try:
        found = {str(key): str(value) for key, value in typed.items()}
    except ValueError as error:  # more digits than Python writes
        raise InvalidArtifact(f"{file}: {error}", hint="correct that number") from error
    if (names := written.get("names")) is not None:
        found["names"] = str(_numbered(names) if isinstance(names, dict) else names)
    return found


def _numbered(names: dict[Any, Any]) -> dict[Any, Any]:
    """The names with whole numbers as keys, where all keys are such and no two are the same."""
    try:
        found = {int(key): name for key, name in names.items()}
    except (TypeError, ValueError):
        return names
    return found if len(found) == len(names) else names
