"""Command lines that cannot be parsed: one style of errors, exit code 2, a hint that helps."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked_commands import Commands
from seatrial.cli.main import build
from seatrial.errors import InvalidConfig


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    slow = ("cyclopts", "rich.table", "numpy", "cv2", "seatrial.cli.detect", "seatrial.cli.bench")
    with Commands(*slow) as commands:
        yield commands


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("frob", "'frob' is not a command of seatrial", "it has: init, doctor, models,"),
        ("modles", "'modles' is not a command of seatrial", "did you mean models?"),
        ("predict source=x", "'predict' is not a command of seatrial", "seatrial detect"),
        ("train", "'train' is not a command of seatrial", "seatrial finetune"),
        ("yolo predict source=x", "'yolo' is not a command of seatrial", "seatrial detect"),
        ("yolo detect train data=x", "'yolo' is not a command of seatrial", "seatrial finetune"),
        ("yolo", "'yolo' is not a command of seatrial", "seatrial detect FILE-OR-FOLDER"),
        ("frob predict", "'frob' is not a command of seatrial", "it has: init, doctor, models,"),
        ("models lsit", "'lsit' is not a command of seatrial models", "did you mean list?"),
        ("detect", "seatrial detect needs IMAGE", "seatrial detect FILE-OR-FOLDER"),
        ("detect x --modle y", "--modle is not an option of seatrial detect", "mean --model?"),
        ("detect x --model", "--model needs a value", "seatrial detect --help"),
        (
            "canary start x --share -5%",
            "--share needs a value, and '-5%' reads as an option",
            "write --share=-5%",
        ),
        (
            "data split x -o y --fractions 0.8 0.3",
            "--fractions needs 3 values, not 2",
            "seatrial data split --help",
        ),
        (
            "data split x -o y --fractions 80 10 10",
            "--fractions 80, 10, 10 do not add up to 1",
            "--fractions 0.8 0.1 0.1",
        ),
        (
            "data split x -o y --fractions 0.8 0.3 0.1",
            "--fractions 0.8, 0.3, 0.1 do not add up to 1",
            "for example --fractions 0.8 0.1 0.1",
        ),
        ("detect x --conf many", "--conf takes a number, not 'many'", "detect --help"),
        ("detect x --model y --model z", "--model is given twice", "give it once"),
        ("yolo predict model=y source=x", "'yolo' is not a command of", "detect --model y x"),
        ("yolo checks", "'yolo' is not a command of seatrial", "seatrial doctor"),
        ("val model=y", "'val' is not a command of seatrial", "seatrial evaluate y --dataset"),
        ("detect predict model=y", "'predict' is not a file", "seatrial detect --model y FILE-"),
        (
            "detect x y=1 conf=.3 --model m",
            "'conf=.3' is not a file",
            "detect x --confidence .3 --model m",
        ),
        ("export model=y --to onnx --images x", "'model=y' is not a file", "export y --to onnx"),
        ("serve yolo11n", "'yolo11n' is a model", "seatrial serve --model yolo11n"),
        ("serve gone.onnx --port 1", "'gone.onnx' is a model", "serve --port 1 --model gone.onnx"),
        ("reload yolo11n", "'yolo11n' is a model", "seatrial reload --model yolo11n"),
        ("reload d.toml yolo11n", "'yolo11n' is a model", "seatrial reload d.toml --model yolo11n"),
        ("judge yolo11n c.toml", "'yolo11n' is a model", "judge c.toml --model yolo11n"),
        ("bench yolo11n --model m --images x", "unknown scenario 'yolo11n'", "single-stream"),
        ("detect yolo11n --iou .5", "'yolo11n' is a model", "detect FILE-OR-FOLDER --iou .5 --m"),
        ("detect -", "- (standard input) is not read by seatrial detect", "/dev/stdin"),
        ("data check -", "- (standard input) is not read by seatrial data check", "/dev/stdin"),
        ("evaluate m --confidence .5", "--confidence is not an option", "hint: --threshold"),
        ("evaluate m --plots", "--plots is not an option", "--report FILE.html"),
        ("evaluate m -o x", "-o is not an option of seatrial evaluate", "--report FILE.html"),
        ("bench --report x", "--report is not an option of seatrial bench", "--output FOLDER"),
        ("judge c --report x", "--report is not an option of seatrial judge", "--output FOLDER"),
        ("detect x --half", "--half is not an option of seatrial detect", "--precision f16"),
        ("detect x --img 320", "--img is not an option of seatrial detect", "--imgsz SIZE"),
        ("detect x --show", "--show is not an option of seatrial detect", "seatrial demo"),
        ("finetune --lr0 0.1", "--lr0 is not an option of seatrial finetune", "[optimiser]"),
        ("finetune --model y.pt", "--model is not an option of seatrial finetune", "--from"),
        ("finetune --trainer t", "--trainer takes one of transformers, lightning,", "--help"),
        ("export m --format onnx", "--format is not an option of seatrial export", "--to"),
        ("evaluate m --data d", "--data is not an option of seatrial evaluate", "--dataset"),
        ("bench --sessions x --images i", "--sessions takes a whole number, not", "bench --help"),
        ("data check a b", "seatrial data check has no use for 'b'", "data check --help"),
        ("compress int8", "seatrial compress int8 needs ARTIFACT", "compress int8 --help"),
    ],
)
def test_what_is_wrong_and_what_to_type(
    commands: Commands, tmp_path: Path, line: str, message: str, hint: str
) -> None:
    environment = {**os.environ, "SEATRIAL_HOME": str(tmp_path)}
    done = commands.run(*shlex.split(line), environment=environment)
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {message}")
    assert second.startswith("hint: ")
    assert hint in second
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["serve", "--model", "x", "--write", ""], "--write"),
        (["serve", "--write=", "--model", "x"], "--write"),
        (["detect", ""], "IMAGE"),
        (["detect", "a.jpg", "--", ""], "IMAGE"),
        (["models", "pull", ""], "MODEL"),
        (["models", "search", "detr", "--limit", ""], "--limit"),
        (["package", "triton", "d.toml", "-o", ""], "-o"),
    ],
)
def test_an_empty_value_is_refused_by_its_name(words: list[str], named: str) -> None:
    """As a path it would be the working folder."""
    with pytest.raises(InvalidConfig, match=f"^{named} is empty$"):
        build().parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        (["models", "search", ""], ["text"]),
        (["models", "search", "--text=", "--task", ""], ["text", "task"]),
        (["package", "triton", "d.toml", "-o", "x", "--environment", ""], ["environment"]),
        (["init", "x", "--from", "", "--json"], ["base"]),
    ],
)
def test_an_empty_value_is_taken_where_it_has_a_meaning(words: list[str], empty: list[str]) -> None:
    _, bound, _ = build().parse_args(words, exit_on_error=False, print_error=False)
    assert [bound.arguments[name] for name in empty] == [""] * len(empty)
