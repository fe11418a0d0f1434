"""Whether a family here can run a model, judged by the hub's facts about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from seatrial.detect.families.huggingface import ARCHITECTURES

# config.json's model_type -> family.
MODEL_TYPES = dict.fromkeys(ARCHITECTURES, "detr")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


class Compatibility(msgspec.Struct, frozen=True):
    """Whether a model runs here.

    Attributes:
        runs: Verdict; ``unknown`` where the hub does not tell what the model is.
        family: Name in the family table; empty unless it runs.
        note: Option that the pull needs, or the reason why it does not run; may be empty.
        file: The one file to pull; empty for all that transformers loads.
    """

    runs: Literal["yes", "no", "unknown"]
    family: str = ""
    note: str = ""
    file: str = ""

    def describe(self) -> str:
        """Text for a table."""
        text = {"yes": self.family, "no": "no", "unknown": "?"}[self.runs]
        note = self.note or self.file
        return f"{text} ({note})" if note else text


def judge(model_type: str, tags: Iterable[str], files: list[str] | None) -> Compatibility:
    """Tell whether a family here can run a model.

    Args:
        model_type: Type in its config.json; empty if the hub does not tell.
        tags: Tags of the model, the library's name among them.
        files: Paths in the repository; None if the hub does not tell.
    """
    words = {tag.lower().removeprefix("library:").removeprefix("model_type:") for tag in tags}
    if not model_type:
        spelled = {word.replace("-", "_") for word in words}
        # Most specific first: an RT-DETRv2 is tagged detr too.
        by_length = sorted(MODEL_TYPES, key=len, reverse=True)
        model_type = next((t for t in by_length if t in spelled), "")
    if model_type in MODEL_TYPES:
        return _with_weights(MODEL_TYPES[model_type], files)
    if any(_is_yolo(word) for word in (words if not model_type else {model_type})):
        return _yolo(files)
    if model_type:
        return Compatibility("no", note=model_type)
    return Compatibility("unknown") if files is None or _onnx(files) else Compatibility("no")


def _is_yolo(word: str) -> bool:
    # YOLOS is a transformer of its own.
    return word == "ultralytics" or (word.startswith("yolo") and word != "yolos")


def _with_weights(family: str, files: list[str] | None) -> Compatibility:
    if files is None or any(path.endswith(".safetensors") for path in files):
        return Compatibility("yes", family)
    if onnx := _onnx(files):
        return Compatibility("yes", family, file=onnx)
    if any(path.endswith(PICKLES) for path in files):
        return Compatibility("yes", family, "--allow-pickle")
    return Compatibility("no", note="no weights")


def _yolo(files: list[str] | None) -> Compatibility:
    if files is None:
        return Compatibility("unknown", note="needs an .onnx file")
    if onnx := _onnx(files):
        return Compatibility("yes", "yolo", file=onnx)
    return Compatibility("no", note="pickle only; export it to ONNX")


def _onnx(files: list[str]) -> str:
    """The plainest ONNX file: the one with the shortest path."""
    return min((path for path in files if path.endswith(".onnx")), key=len, default="")
