"""Command lines in Ultralytics' syntax: each gets a whole command that the parser takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from seatrial.cli import main
from seatrial.cli.foreign_names import OPTIONS
from seatrial.cli.ultralytics_syntax import ALSO, MODES, NEEDED, TAKEN, in_our_words

APP = main.build()
HELD, PUBLISHED = ("yolo11n", "mine"), ("yolo11n", "yolo11s")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with an image, a dataset and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in ("a.jpg", "best.pt", "set/data.yaml", "set/odd.yaml"):
        (tmp_path / name).write_bytes(b"")


def answer(line: str) -> tuple[str, str]:
    """Message and hint."""
    error = in_our_words(shlex.split(line), HELD.__contains__, PUBLISHED)
    assert error is not None, line
    return error.message, error.hint


def check_commands(hint: str) -> None:
    """Parse each command of a hint; nothing runs."""
    for command in hint.rpartition("then: ")[2].split(" && "):
        words = shlex.split(command)
        assert words[0] == "seatrial"
        _, bound, _ = APP.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert bound.arguments


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (
            "detect predict model=yolo11n source=a.jpg conf=0.3",
            "seatrial detect --model yolo11n a.jpg --confidence 0.3",
        ),
        (
            "detect task=detect mode=predict model=yolo11n source=a.jpg",
            "seatrial detect --model yolo11n a.jpg",
        ),
        ("yolo", "seatrial detect FILE-OR-FOLDER --model NAME"),
        ("yolo predict model=yolo11n.pt source='a b'", "seatrial detect --model yolo11n 'a b'"),
        ("predict a.jpg --model x --json", "seatrial detect a.jpg --model x --json"),
        ("predict --weights=x.onnx --conf-thres 0.3 a.jpg",
         "seatrial detect --model x.onnx --confidence 0.3 a.jpg"),
        ("detect a.jpg classes=[0, 2] model=x", "seatrial detect a.jpg --classes 0,2 --model x"),
        ("detect a.jpg max_det=9 vid_stride=2 model=x iou=.5",
         "seatrial detect a.jpg --max-detections 9 --every 2 --model x --iou .5"),
        ("track source=a.mp4 model=x", "seatrial detect --track a.mp4 --model x"),
        ("detect track source=a.mp4", "seatrial detect --track a.mp4 --model NAME"),
        ("detect a.jpg model=x device=cuda:0",
         "seatrial detect a.jpg --model x --device cuda --engine onnxruntime"),
        ("detect model=yolo11s.pt source=a.jpg",
         "seatrial models pull yolo11s && seatrial detect --model yolo11s a.jpg"),
        ("detect model=best.pt source=a.jpg",
         "seatrial export best.pt --to onnx --images FOLDER --name best --allow-pickle && "
         "seatrial detect --model best a.jpg"),
        ("detect model=Mine.pt source=a.jpg", "seatrial detect --model mine a.jpg"),
        ("val model=yolo11n data=set/data.yaml", "seatrial evaluate yolo11n --dataset yolo:set"),
        ("evaluate model=yolo11n data=set/odd.yaml split=test",
         "seatrial evaluate yolo11n --dataset yolo:set --annotations set/odd.yaml --split test"),
        ("val --weights yolo11n.pt --data set",
         "seatrial evaluate yolo11n --dataset yolo:set"),
        ("train", "seatrial finetune --trainer ultralytics --from MODEL --data yolo:FOLDER "
         "--name NAME"),
        ("train model=yolo11n.yaml data=set/data.yaml epochs=3 batch=4 device=0 name=n",
         "seatrial finetune --from scratch:yolo11n --data yolo:set --epochs 3 --batch 4 "
         "--device cuda --name n --trainer ultralytics"),
        ("finetune model=best.pt data=set",
         "seatrial finetune --from best.pt --allow-pickle --data yolo:set --trainer ultralytics "
         "--name NAME"),
        ("export model=yolo11n.pt format=engine imgsz=[480,640] dynamic=True",
         "seatrial export yolo11n --to tensorrt --imgsz 480x640 --dynamic-batch --images FOLDER"),
        ("export model=x dynamic=False", "seatrial export x --to onnx --images FOLDER"),
        ("benchmark model=yolo11n", "seatrial bench --model yolo11n --images FOLDER"),
        ("serve model=yolo11n device=cpu", "seatrial serve --model yolo11n --device cpu"),
    ],
)  # fmt: skip
def test_the_whole_command(line: str, command: str) -> None:
    assert answer(line)[1] == command
    check_commands(command)


@pytest.mark.parametrize("mode", MODES)
def test_each_key_is_in_the_command_or_named(mode: str) -> None:
    """Every option of the tables, alone: none is lost without a word."""
    command = MODES[mode]
    keys = {*TAKEN[command], *OPTIONS[""], *OPTIONS.get(command, ())}
    numbers = dict.fromkeys(("iou", "conf", "batch", "epochs", "max-det", "vid-stride"), "1")
    special = {"format": "onnx", "device": "cpu", "split": "test", "imgsz": "64", "data": "set"}
    for key in sorted(keys):
        value = (numbers | special).get(key, "True" if key == "dynamic" else "word")
        message, hint = answer(f"{mode} {key.replace('-', '_')}={value}")
        if ALSO.get(key, key) not in TAKEN[command]:
            assert f"{key.replace('-', '_')}={value}" in message
        check_commands(hint)


def test_needed_words_are_options_of_the_commands() -> None:
    assert {*NEEDED} == {*TAKEN}
    for name in NEEDED:
        check_commands(answer(f"{name} model=yolo11n")[1])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("detect model=x source=a.jpg imgsz=320", "imgsz=320 (a model keeps the size"),
        ("detect a.jpg model=x save=True", "save=True (--output PLACE writes"),
        ("detect a.jpg model=x new_key=3", "new_key=3 (there is no such option here)"),
        ("predict a.jpg --imgsz 320", "imgsz=320 (a model keeps the size"),
        ("detect a.jpg model=x device=mps", "device=mps (devices are cpu and cuda"),
        ("val model=x data=coco8.yaml", "data=coco8.yaml (there is no such file"),
        ("export model=x format=coreml", "format=coreml (made are: onnx, openvino, engine)"),
        ("yolo segment predict model=x source=a.jpg", "task=segment: Seatrial detects"),
        ("predict task=pose model=x", "task=pose: Seatrial detects"),
        ("detect model=best.pt source=a.jpg", "best.pt is a pickle: reading it runs code"),
        ("train model=gone.pt data=set", "gone.pt is a pickle"),
    ],
)
def test_what_cannot_be_translated_is_said(line: str, said: str) -> None:
    message, hint = answer(line)
    assert said in message
    check_commands(hint)


def test_what_is_off_needs_no_word() -> None:
    message, _ = answer("detect model=x source=a.jpg show=False save_txt=false augment=None")
    assert "below" not in message
    assert "amp=False" in answer("train model=best.pt data=set amp=False")[0]


@pytest.mark.parametrize(
    ("source", "file"),
    [("0", "clip.mp4"), ("rtsp://camera/1", "clip.mp4"), ("https://a.b/c/d.jpg", "d.jpg")],
)
def test_a_camera_or_an_address_is_recorded_first(source: str, file: str) -> None:
    message, hint = answer(f"detect model=yolo11s.pt source={source}")
    assert f"{source} is not a file" in message
    assert hint.endswith(
        f"; then: seatrial models pull yolo11s && seatrial detect --model yolo11s {file}"
    )
    assert hint.startswith(("record", "download"))
    check_commands(hint)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "detect a.jpg --model x",
        "detect a.jpg --output conf=1.png",
        "detect a.jpg day=1",
        "data check model=x",
        "models pull model=x",
        "yolo checks",
        "frob",
    ],
)
def test_other_lines_are_not_ultralytics(line: str) -> None:
    assert in_our_words(shlex.split(line), HELD.__contains__, PUBLISHED) is None


def test_a_file_of_that_name_is_a_file() -> None:
    for name in ("conf=1", "predict"):
        Path(name).write_bytes(b"")
        assert in_our_words(["detect", name], HELD.__contains__, PUBLISHED) is None
