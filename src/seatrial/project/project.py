"""The files of a new project: recipe, contract, deployment, Makefile, CI, README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.artifact import check_name
from seatrial.errors import InvalidInput, NotWritable

TEMPLATES = Path(__file__).parent / "templates"
# Template -> file of the project. A dot file among the templates would be left out of a wheel.
FILES = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    "recipe.toml": "recipe.toml",
    "contract.toml": "contract.toml",
    "deployment.toml": "deployment.toml",
    "gitignore": ".gitignore",
    "check.yml": ".github/workflows/check.yml",
}
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Trainer -> what it begins with, and the extra that it comes with.
BASES = {
    "transformers": ("huggingface:ustc-community/dfine-nano-coco", "train"),
    "lightning": ("huggingface:ustc-community/dfine-nano-coco", "train"),
    "ultralytics": ("yolo11n.pt", "train,yolo"),
}
# Base that no hub of ours has -> how to come by it.
TO_FETCH = {
    "yolo11n.pt": (
        "`yolo11n.pt` is a checkpoint of Ultralytics: download it from the assets of their releases"
        "\nand put it beside the Makefile. Commit it (5 MB), or CI has none to begin with.\n"
    )
}

Trainer = Literal["transformers", "lightning", "ultralytics"]


class Choices(msgspec.Struct, frozen=True):
    """What a project begins with.

    Attributes:
        name: Of the artifacts it makes.
        trainer: As ``seatrial finetune`` has it.
        base: What is finetuned; of the trainer's family by default.
    """

    name: str
    trainer: Trainer = "transformers"
    base: str = ""


def create(folder: Path, choices: Choices) -> list[Path]:
    """Write a project.

    Args:
        folder: Made if it is not there; must be empty otherwise.
        choices: What goes into the files.

    Returns:
        The files, in the order of `FILES`.

    Raises:
        InvalidInput: The folder holds something, or the name cannot name an artifact.
        NotWritable: It cannot be written.
    """
    texts = render(choices)
    written = []
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidInput(f"{folder} is there already", hint="name a new folder")
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise NotWritable(
            f"the project {folder} cannot be written: {error.strerror}", hint="name another folder"
        ) from error
    return written


def render(choices: Choices) -> dict[str, str]:
    """Name of each file -> its text."""
    usual, extras = BASES[choices.trainer]
    base = choices.base or usual
    values = {
        "name": check_name(choices.name),
        "trainer": choices.trainer,
        "base": base,
        "fetch": f"\n{TO_FETCH[base]}" if base in TO_FETCH else "",
        "extras": extras,
        # Ultralytics' checkpoints are pickles.
        "flags": "--allow-pickle " if choices.trainer == "ultralytics" else "",
    }
    return {
        target: PLACEHOLDER.sub(
            lambda found: values[found[1]], (TEMPLATES / source).read_text(encoding="utf-8")
        )
        for source, target in FILES.items()
    }
