"""The files of a new project: recipe, contract, deployment, Makefile, CI, README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.errors import InvalidInput
from seatrial.manifest import check_name
from seatrial.system.files import staged_folder
from seatrial.system.own_wheel import provide_package

TEMPLATES = Path(__file__).parent / "templates"
# Template -> file of the project. A wheel would leave out a dot file among the templates.
FILES = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    "recipe.toml": "recipe.toml",
    "contract.toml": "contract.toml",
    "deployment.toml": "deployment.toml",
    "gitignore": ".gitignore",
    "check.yml": ".github/workflows/check.yml",
}
# What neither make nor a shell takes for more than a word.
BASE = re.compile(r"[\w.~/][\w.~/:@+-]*")
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Trainer -> its base model, and the extra that installs it.
BASES = {
    "transformers": ("huggingface:ustc-community/dfine-nano-coco", "train"),
    "lightning": ("huggingface:ustc-community/dfine-nano-coco", "train"),
    "ultralytics": ("yolo11n.pt", "train,yolo"),
}
# Base model that is on no hub -> where to get it.
TO_FETCH = {
    "yolo11n.pt": (
        "`yolo11n.pt` is a checkpoint of Ultralytics: download it from the assets of their releases"
        "\nand put it beside the Makefile. Commit it (5 MB), because CI needs it too.\n"
    )
}

Trainer = Literal["transformers", "lightning", "ultralytics"]


class ProjectOptions(msgspec.Struct, frozen=True):
    """Values that go into the files of a project.

    Attributes:
        name: Name of the artifacts that the project makes.
        trainer: Trainer, by its name in ``seatrial finetune``.
        base: Model to finetune; default: the one in `BASES`.
    """

    name: str
    trainer: Trainer = "transformers"
    base: str = ""


def create(folder: Path, options: ProjectOptions) -> list[Path]:
    """Write a project.

    Args:
        folder: New or empty folder. It appears whole or not at all.
        options: What goes into the files.

    Returns:
        Paths of the files, in the order of `FILES`; last a wheel of this Seatrial, where it was
        not installed from a package index.

    Raises:
        InvalidInput: The folder holds files, the name is not valid for an artifact, or Seatrial
            is not installed but runs from a folder on ``PYTHONPATH``.
        NotWritable: The folder cannot be written.
    """
    check_name(options.name)
    with staged_folder(folder) as staged:
        extras = BASES[options.trainer][1].split(",")
        texts = render(options, provide_package(staged, "all", *extras, "demo"))
        for name, text in texts.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), *folder.glob("wheels/*.whl")]


def render(options: ProjectOptions, package: str) -> dict[str, str]:
    """File name -> text of the file.

    Args:
        options: See `create`.
        package: Requirement that installs Seatrial.

    Raises:
        InvalidInput: The name or the base is none.
    """
    usual, _ = BASES[options.trainer]
    base = options.base or usual
    if not BASE.fullmatch(base):
        raise InvalidInput(
            f"{base!r} cannot stand in a Makefile",
            hint="name a model of a hub, or a file with letters, digits and -._~+@:/ in its path",
        )
    values = {
        "name": check_name(options.name),
        "trainer": options.trainer,
        "base": base,
        "fetch": f"\n{TO_FETCH[base]}" if base in TO_FETCH else "",
        "package": package,
        # Ultralytics' checkpoints are pickles.
        "flags": "--allow-pickle " if options.trainer == "ultralytics" else "",
    }
    return {
        target: PLACEHOLDER.sub(
            lambda found: values[found[1]], (TEMPLATES / source).read_text(encoding="utf-8")
        )
        for source, target in FILES.items()
    }
