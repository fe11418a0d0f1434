"""Command lines in Ultralytics' syntax, as commands of Seatrial.

The syntax is ``yolo [TASK] MODE KEY=VALUE ...`` (https://docs.ultralytics.com/usage/cli). Options
with dashes among them are translated too, or kept where they are Seatrial's own.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from seatrial.cli.foreign_names import OPTIONS, hint_for_command, hint_for_option, plain_option
from seatrial.errors import InvalidConfig

MODES = {
    "predict": "detect", "track": "detect", "val": "evaluate", "train": "finetune",
    "export": "export", "benchmark": "bench",
}  # fmt: skip
TASKS = ("detect", "segment", "classify", "pose", "obb")
# Command -> key of Ultralytics -> option; "" for a word without an option.
TAKEN: dict[str, dict[str, str]] = {
    "detect": {
        "source": "", "model": "--model", "conf": "--confidence", "iou": "--iou",
        "max-det": "--max-detections", "classes": "--classes", "vid-stride": "--every",
        "device": "--device",
    },
    "evaluate": {"model": "", "data": "--dataset", "split": "--split", "device": "--device"},
    "finetune": {
        "model": "--from", "data": "--data", "epochs": "--epochs", "batch": "--batch",
        "device": "--device", "name": "--name",
    },
    "export": {"model": "", "format": "--to", "imgsz": "--imgsz", "dynamic": "--dynamic-batch"},
    "bench": {"model": "--model", "device": "--device"},
    "serve": {"model": "--model", "device": "--device"},
}  # fmt: skip
# Words that a command needs, where they are not given.
NEEDED: dict[str, dict[str, str]] = {
    "detect": {"": "FILE-OR-FOLDER", "--model": "NAME"},
    "evaluate": {"": "MODEL", "--dataset": "yolo:FOLDER"},
    "finetune": {
        "--trainer": "ultralytics", "--from": "MODEL", "--data": "yolo:FOLDER", "--name": "NAME",
    },
    "export": {"": "MODEL", "--to": "onnx", "--images": "FOLDER"},
    "bench": {"--model": "NAME", "--images": "FOLDER"},
    "serve": {"--model": "NAME"},
}  # fmt: skip
FORMATS = {"onnx": "onnx", "openvino": "openvino", "engine": "tensorrt"}
SETS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")  # found in a folder by their name
ALSO = {"weights": "model", "include": "format"}  # of YOLOv5's scripts
ON_BY_DEFAULT = ("amp", "pretrained", "simplify")
OTHER_TASK = "Seatrial detects objects only"


@dataclass
class _Command:
    """The command that is made; `left_out` says why a key is not in it."""

    name: str
    words: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)  # what goes first, as it is typed
    given: set[str] = field(default_factory=set)

    def add(self, option: str, *values: str) -> None:
        self.given.add(option)
        self.words += [option, *values] if option else values


def in_our_words(
    words: Sequence[str], holds: Callable[[str], bool], published: Sequence[str]
) -> InvalidConfig | None:
    """The error that answers a command line in Ultralytics' syntax; None for any other.

    Its hint is the whole command in Seatrial's words; its message names what is not in that.

    Args:
        words: The command line without ``seatrial``.
        holds: Whether the store holds a model of a name.
        published: Names of models that can be pulled.
    """
    said = _first_foreign(words)
    if said is None:
        return None
    rest, name, mode = _mode(words)
    made = _Command(name)
    if mode == "track":
        made.add("--track")
    for key, value in _pairs(rest, name):
        _translate(made, key, value, holds, published)
    for option, value in NEEDED[name].items():
        if option not in made.given:
            made.add(option, value)
    message = "; ".join([said, *made.notes])
    if made.left_out:
        message += f"; not in the command below: {'; '.join(made.left_out)}"
    hint = "".join([*made.before, shlex.join(["seatrial", name, *made.words])])
    return InvalidConfig(message, hint=hint)


def _first_foreign(words: Sequence[str]) -> str | None:
    """The words about the first word that is not Seatrial's; None where there is none."""
    if not words or words[0] not in (*TAKEN, *MODES, *TASKS, "yolo"):
        return None
    if words[0] == "yolo" and words[1:] and hint_for_command([words[1]]) and words[1] not in MODES:
        return None  # yolo help, yolo checks
    if words[0] not in TAKEN:
        return f"{words[0]!r} is not a command of seatrial"
    if len(words) > 1 and words[0] in TASKS and words[1] in MODES and not Path(words[1]).exists():
        return f"{words[1]!r} is not a file"
    for before, word in itertools.pairwise(words):
        if _is_pair(word, words[0]) and not re.fullmatch("-o|--output|--name|--report", before):
            return f"{word!r} is not a file; options are written with two dashes"
    return None


def _is_pair(word: str, command: str) -> bool:
    """Whether a word is ``KEY=VALUE`` with a key that Ultralytics has, and not a file."""
    plain = plain_option(word.partition("=")[0])
    known = {"task", "mode", *TAKEN[command], *OPTIONS[""], *OPTIONS.get(command, ())}
    return _has_key(word) and (plain in known or any(plain in one for one in OPTIONS.values()))


def _has_key(word: str) -> bool:
    return re.match(r"[a-z_]+\d?=", word) is not None and not Path(word).exists()


def _mode(words: Sequence[str]) -> tuple[list[str], str, str]:
    """The words behind the mode, the command that does it, and the mode."""
    rest, name, mode = list(words), "", ""
    if rest[0] == "yolo":
        del rest[0]
    task = rest.pop(0) if rest and rest[0] in TASKS else "detect"
    if rest and rest[0] in MODES:
        mode = rest.pop(0)
    elif rest and rest[0] in TAKEN:
        name = rest.pop(0)
    for word in [word for word in rest if word.startswith("mode=")]:
        rest.remove(word)
        mode = word.partition("=")[2]
    if task != "detect":
        rest.append(f"task={task}")
    return rest, name or MODES.get(mode, "detect"), mode


def _pairs(words: Sequence[str], command: str) -> Iterator[tuple[str, str]]:
    """Keys and values; ``("", WORD)`` for a word that stays as it is."""
    left = list(words)
    while left:
        word = left.pop(0)
        while _has_key(word) and "[" in word and "]" not in word and left:  # classes=[0, 2]
            word += left.pop(0)
        name, equals, value = word.partition("=")
        plain = plain_option(name)
        known = plain in (*ALSO, *TAKEN[command]) or hint_for_option((command,), name)
        if word.startswith("--") and known:
            if not equals and left and not left[0].startswith("-") and "=" not in left[0]:
                value = left.pop(0)
        elif not _has_key(word):
            yield "", word
            continue
        yield ALSO.get(plain, plain), value


def _translate(
    made: _Command,
    key: str,
    value: str,
    holds: Callable[[str], bool],
    published: Sequence[str],
) -> None:
    option = TAKEN[made.name].get(key)
    off = value.lower() in ("false", "none", "")
    if not key:
        made.given.add(value if value.startswith("-") else "")
        made.words.append(value)
    elif key == "task":
        if value != "detect":
            made.left_out.append(f"task={value}: {OTHER_TASK}")
    elif option is None:
        if not off or key in ON_BY_DEFAULT:
            shown = f"{key.replace('-', '_')}={value}"
            hint = hint_for_option((made.name,), f"--{key}") or "there is no such option here"
            made.left_out.append(f"{shown} ({hint})")
    elif key == "source":
        _source(made, value)
    elif key == "model":
        _model(made, option, value, holds, published)
    elif key == "data":
        _data(made, option, value)
    elif key == "device":
        _device(made, option, value)
    elif key == "dynamic":
        made.words += [] if off else [option]
    elif key == "format":
        if value in FORMATS:
            made.add(option, FORMATS[value])
        else:
            made.left_out.append(f"format={value} (made are: onnx, openvino, engine)")
    elif key == "classes":
        made.add(option, re.sub(r"[\[\] ]", "", value))
    elif key == "imgsz":
        made.add(option, "x".join(re.findall(r"\d+", value)))
    else:
        made.add(option, value)


def _source(made: _Command, value: str) -> None:
    from seatrial.video.inputs import is_stream, no_stream

    if is_stream(value):
        refused = no_stream(value)
        made.notes.append(refused.message)
        made.before.insert(0, f"{refused.hint}; then: ")
        name = PurePosixPath(urlsplit(value).path).name
        value = name if "curl" in refused.hint else "clip.mp4"
    made.add("", value)


def _model(
    made: _Command, option: str, value: str, holds: Callable[[str], bool], published: Sequence[str]
) -> None:
    from seatrial.models.import_checkpoint import plain_name

    path = PurePosixPath(value)
    name = plain_name(path.stem)
    trains = made.name == "finetune"
    if trains and path.suffix in (".yaml", ".yml"):
        made.add(option, f"scratch:{path.stem}")
    elif path.suffix != ".pt":
        made.add(option, value)
    elif not trains and holds(name):
        made.add(option, name)
    elif not trains and name in published and len(path.parts) == 1:
        made.before.append(f"seatrial models pull {name} && ")
        made.add(option, name)
    else:
        there = "" if Path(value).is_file() else ", and it is not there"
        made.notes.append(f"{value} is a pickle: reading it runs code that is in it{there}")
        if made.name in ("finetune", "export"):
            made.add(option, value)
            made.words.append("--allow-pickle")
        else:
            to_graph = ["seatrial", "export", value, "--to", "onnx", "--images", "FOLDER"]
            made.before.append(shlex.join([*to_graph, "--name", name, "--allow-pickle"]) + " && ")
            made.add(option, name)


def _data(made: _Command, option: str, value: str) -> None:
    path = Path(value)
    if path.suffix in (".yaml", ".yml") and not path.is_file():
        made.left_out.append(f"data={value} (there is no such file, and nothing is downloaded)")
    elif path.suffix in (".yaml", ".yml"):
        made.add(option, f"yolo:{path.parent}")
        if path.name not in SETS and made.name == "evaluate":
            made.add("--annotations", value)
    else:
        made.add(option, value if ":" in value else f"yolo:{value}")


def _device(made: _Command, option: str, value: str) -> None:
    if value == "cpu":
        made.add(option, value)
    elif re.fullmatch(r"(cuda|gpu)?:?\d?", value):
        made.add(option, "cuda")
        if made.name != "finetune":
            made.add("--engine", "onnxruntime")
    else:
        made.left_out.append(f"device={value} (devices are cpu and cuda, one GPU)")
