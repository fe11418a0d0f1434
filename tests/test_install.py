"""The wheel with one extra alone in a fresh environment.

One file, because its tests share what they install. The packages come out of uv's cache, or are
downloaded once.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from forked_commands import Commands
from fresh_environments import (
    CONSTRAINTS,
    ENVIRONMENT,
    EXTRAS,
    NO_SERVICE,
    ROOT,
    answers,
    brings_cuda,
    install,
    resolve,
    share_bytecode,
    variables,
)
from hub_server import FakeHub
from seatrial.cli.main import COMMANDS as NAMES
from seatrial.serve.address import free_port

pytestmark = pytest.mark.slow

# Not tried here, and why.
LEFT_OUT = {
    "onnxruntime-gpu": "gigabytes of CUDA",
    "tensorrt": "gigabytes of CUDA",
    "tensorrt-check": "a gigabyte, for one part of the export",
    "test": "nothing for users",
    "lint": "nothing for users",
    "audit": "nothing for users",
    "docs": "nothing for users",
}
# A gigabyte and minutes each: tried with --large-extras.
LARGE = ("torch", "transformers", "train", "track", "yolo")
# Run in a folder with what they name. CLOSED: nothing listens there; no index, no hub but ours.
COMMANDS = """
    doctor
    init project
    models list
    models show tiny
    models gc
    models search detr
    models pull huggingface:acme/tiny/model.onnx
    models pull ssd-mobilenet-v2
    models pull yolo11n
    models import model.onnx --name imported
    models import checkpoint --name imported-checkpoint
    models import weights.pt --allow-pickle --name imported-weights
    data check yolo
    data convert coco -o as-yolo --to yolo
    data split coco -o splits
    data preview coco -o preview.jpg
    data label coco/images/val -o labels --model tiny
    data sample digits -o digits --count 10 --size 96 --backgrounds bundled
    data sample photos -o photos
    finetune --trainer transformers --data coco:coco --from network -o tuned --show-recipe
    finetune --trainer lightning --data coco:coco --from network -o tuned --epochs 1
    finetune --trainer ultralytics --data yolo:yolo --from scratch:yolo11n -o other --show-recipe
    export tiny --to onnx --precision f16 --images coco/images/val
    export tiny --to openvino --images coco/images/val
    export tiny --to torch --images coco/images/val
    export tiny --to tensorrt --images coco/images/val
    export network --to onnx --images coco/images/val
    compress int8 tiny --calibration coco/images/val --to openvino --recipe no-bias-correction
    compress int8 tiny --calibration coco/images/val --to onnxruntime --recipe minmax
    detect image.png --model tiny
    detect image.png --model tiny --engine onnxruntime
    detect image.png --model tiny --engine null --save boxes.jpg
    evaluate tiny --dataset coco:coco
    evaluate --url CLOSED --dataset coco:coco
    bench --url CLOSED --images coco/images/val --ready-s 1
    judge contract.toml --url CLOSED --dataset coco:coco --split val --ready-s 1
    trial contract.toml --model tiny --dataset coco:coco
    compare CLOSED CLOSED/ --images coco/images/val
    capacity report.json --rate 5 --latency-limit-ms 50
    loadgen single-stream --url CLOSED --images coco/images/val -o loadgen
    serve --model tiny --engine null --write service
    package triton deployment.toml -o repository
    serve --model tiny --engine null --grpc-port 4001 --write both
    rehearse tiny tiny --deployment deployment.toml
    reload --model tiny --url CLOSED
    canary status --url CLOSED
    demo gradio --model tiny --port PORT
    demo streamlit --model tiny --engine null --port PORT
"""
# Commands that need more than packages: code with which they end, where no package is missing.
ENDS = {
    "models pull ssd-mobilenet-v2": 5,  # no package index
    "models pull yolo11n": 5,  # no weights
    "models import weights.pt": 3,  # it is no checkpoint
    "data sample photos": 5,
    "export tiny --to tensorrt": 4,  # no GPU
    "compress": 9,  # four images decide nothing
    "evaluate --url": 6,
    "bench": 6,
    "judge": 6,
    "trial": 2,  # the contract has no [server]
    "compare": 6,
    "capacity": 2,  # no such report
    "loadgen": 6,
    "reload": 6,
    "canary": 6,
}
# What a command imports, for the process that forks; Seatrial's own modules too.
WARM = (
    "cyclopts", "cv2", "PIL.Image", "rich.table", "rich.progress", "onnx", "openvino",
    "onnxruntime", "torch", "httptools", "bentoml",
    "seatrial.cli.main", "seatrial.models.resolve", "seatrial.models.hubs.pull",
    "seatrial.datasets.read", "seatrial.accuracy.evaluate", "seatrial.export.run",
    "seatrial.quantise.run", "seatrial.train.run", "seatrial.cli.evaluate",
    "seatrial.cli.finetune", "seatrial.serve.startup", "seatrial.bench.run", "brief_speed",
)  # fmt: skip


class Ended(msgspec.Struct, frozen=True):
    """How a command ended in an environment."""

    line: str
    code: int
    said: str

    @property
    def missing(self) -> str:
        """Extra that it names as missing."""
        found = re.search(r"is not installed.*\nhint: .*\[([\w-]+)\]'", self.said, re.S)
        return found[1] if found and self.code == 4 else ""

    @property
    def broken(self) -> bool:
        """Whether it says that a package does not import."""
        return self.code == 4 and "does not import" in self.said

    @property
    def as_expected(self) -> bool:
        """Whether it ended as where no package is missing."""
        ends = [code for start, code in ENDS.items() if self.line.startswith(start)]
        return not self.missing and self.code in (0, *ends)


@pytest.fixture(scope="module")
def hub(materials: Path) -> Iterator[FakeHub]:
    running = FakeHub()
    running.add("acme/tiny", {"model.onnx": (materials / "model.onnx").read_bytes()})
    yield running
    running.close()


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes an environment with the wheel and some extras once, and gives its Python."""

    bytecode = tmp_path_factory.mktemp("bytecode")

    @functools.cache
    def make(extras: str) -> Path:
        folder = tmp_path_factory.mktemp("environment") / "venv"
        python = install(folder, *CONSTRAINTS, f"{wheel}[{extras}]" if extras else str(wheel))
        share_bytecode(python, bytecode)
        return python

    return make


@pytest.fixture(scope="module")
def ended(
    environments: Callable[[str], Path],
    materials: Path,
    hub: FakeHub,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], list[Ended]]:
    """Runs all commands with an extra alone, once.

    A command that works with a part of an extra, or with none, is not run again: packages are added
    and none is changed, and all other tests run with all of them.
    """

    @functools.cache
    def run(extra: str) -> list[Ended]:
        python = environments(extra)
        known = {one.line: one for part in parts(extra) for one in run(part) if one.as_expected}
        work = tmp_path_factory.mktemp("work") / "here"
        shutil.copytree(materials, work)
        environment = variables(python, work, hub.url)
        found = []
        with (
            pytest.MonkeyPatch.context() as patch,
            Commands(
                # Nothing of a fresh environment is compiled: imports may take minutes.
                *WARM,
                *(f"seatrial.cli.{target.partition(':')[0]}" for target, _ in NAMES.values()),
                python=python,
                environment=environment,
                time_limit_s=600,
            ) as commands,
        ):
            patch.chdir(work)
            for line in (
                COMMANDS.replace("CLOSED", NO_SERVICE).replace("PORT", "0").strip().splitlines()
            ):
                words = shlex.split(line)
                if line.strip() in known and words[0] != "doctor":  # it tries what is there
                    found.append(known[line.strip()])
                    continue
                if extra == "demo" and words[0] == "demo":
                    found.append(begun(python, words, environment))
                    continue
                done = commands.run(*words, environment=environment)
                found.append(Ended(line.strip(), done.returncode, done.stderr))
        return found

    return run


def parts(extra: str) -> tuple[str, ...]:
    """Extras, none among them, whose packages are all in an extra."""
    if not extra:
        return ()
    named = re.findall(r"^seatrial\[([\w,-]+)\]", "\n".join(EXTRAS[extra]), re.M)
    return (*dict.fromkeys(["", *",".join(named).split(",")]),)


def begun(python: Path, words: list[str], environment: dict[str, str]) -> Ended:
    """How a command that serves a page began: with code 0, if the page answers."""
    port = free_port("127.0.0.1")
    line = [str(port) if word == "0" else word for word in words]
    log = Path("demo.log")
    with log.open("wb") as output:
        running = subprocess.Popen(
            [python.parent / "seatrial", *line], env=environment, stdout=output, stderr=output
        )
    give_up = time.monotonic() + 120
    while running.poll() is None and not answers(f"http://127.0.0.1:{port}"):
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.1)
    code = running.poll() or 0
    running.send_signal(signal.SIGINT)
    running.wait(60)
    return Ended(" ".join(words), code, log.read_text())


def check_size(extra: str, *, large: bool) -> None:
    if extra in LEFT_OUT:
        pytest.skip(f"{extra}: {LEFT_OUT[extra]}")
    if extra in LARGE and not large:
        pytest.skip(f"{extra}: a gigabyte and minutes; pytest --large-extras tries it")
    if extra in LARGE and brings_cuda("torch"):
        pytest.skip(f"{extra}: gigabytes of CUDA from this index")


def test_every_command_is_among_those_that_run() -> None:
    run = {line.split()[0] for line in COMMANDS.strip().splitlines()}
    assert {*NAMES} == run


@pytest.mark.parametrize("extra", ["", *EXTRAS], ids=lambda extra: extra or "none")
def test_every_command_works_or_names_the_extra(
    ended: Callable[[str], list[Ended]], extra: str, pytestconfig: pytest.Config
) -> None:
    check_size(extra, large=pytestconfig.getoption("large_extras"))
    for one in ended(extra):
        assert "Traceback" not in one.said, f"{one.line}\n{one.said}"
        if one.missing:
            assert one.missing in EXTRAS, one
            assert one.missing != extra, one
        elif not one.broken:
            assert one.as_expected, one


def test_what_a_command_names_is_what_it_lacks(ended: Callable[[str], list[Ended]]) -> None:
    """With the extra that it named, a command works or names another one."""
    small = (
        "openvino",
        "onnxruntime",
        "serve",
        "grpc",
        "bench",
        "evaluate",
        "data",
        "hub",
        "compress",
    )
    for one in ended(""):
        if one.missing in small:
            (after,) = (other for other in ended(one.missing) if other.line == one.line)
            assert after.missing != one.missing, after


def test_all_is_enough_for_what_the_readme_says_of_it(
    ended: Callable[[str], list[Ended]],
) -> None:
    """What it leaves out is named in the table of the README beside each command."""
    missing = {one.missing for one in ended("all")} - {""}
    assert missing <= {
        "demo",
        "train",
        "transformers",
        "yolo",
        "torch",
        "tensorrt",
        "video",
        "loadgen",
    }
    text = (ROOT / "README.md").read_text()
    assert all(f"`{extra}`" in text for extra in missing)
    for one in ended("all"):
        if one.line.startswith(
            ("demo", "finetune", "loadgen", "models pull yolo", "models import w")
        ):
            continue
        if one.line.startswith("export") and "openvino" not in one.line and "onnx" not in one.line:
            continue
        if "network" in one.line:  # a checkpoint
            continue
        assert not one.missing, one


def test_a_project_runs_with_the_seatrial_that_made_it(
    environments: Callable[[str], Path], tmp_path: Path
) -> None:
    """``make check``, as its README and its CI run it; its package and extras can be installed."""
    python = environments("all")
    work = tmp_path / "work"
    work.mkdir()
    reached = {key: ENVIRONMENT[key] for key in ENVIRONMENT if key.startswith("PIP_")}
    environment = variables(python, work, NO_SERVICE) | {"PIP_NO_INDEX": "0", **reached}
    seatrial = [str(python.parent / "seatrial")]
    subprocess.run([*seatrial, "init", "app"], cwd=work, env=environment, check=True)
    makefile = (work / "app" / "Makefile").read_text()
    (package,) = re.findall(r"^PACKAGE \?= \./(\S+\.whl)\[all,train,demo\]$", makefile, re.M)
    made = work / "app" / ".venv"
    # As `python -m venv` makes it, with pip, which downloads the photos.
    install(made, *CONSTRAINTS, "pip", f"{work / 'app' / package}[data]")
    done = subprocess.run(
        ["make", "check", "COUNT=20"],
        cwd=work / "app",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 images decoded; 0 errors" in done.stderr
    if not brings_cuda("torch"):
        assert " + torch==" in resolve(*CONSTRAINTS, f"{work / 'app' / package}[all,train,demo]")
