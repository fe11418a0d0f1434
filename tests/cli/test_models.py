"""``seatrial models``, run as a person does, against a hub on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import exported_heads as heads
import hub_server
from forked_commands import Commands
from seatrial.artifact import Store

pytestmark = pytest.mark.slow

FILE = "huggingface:acme/yolo11t/onnx/model.onnx"
CONFIG = json.dumps({"model_type": "detr"}).encode()


@pytest.fixture
def hub(tiny_model: Callable[..., Any]) -> Iterator[Any]:
    """A hub with DETRs, a YOLO of some 3 MB and a model that does not run here."""
    running = hub_server.FakeHub()
    model = tiny_model()
    ballast = np.random.default_rng(0).standard_normal(750_000).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    files = {"config.json": CONFIG, "model.safetensors": bytes(166_000)}
    running.add("facebook/detr-resnet-50", files, downloads=900, likes=9, trend=1)
    running.add(
        "acme/detr-old", {"config.json": CONFIG, "pytorch_model.bin": b"\x80"}, downloads=50
    )
    running.add("acme/deformable-detr", {"config.json": b'{"model_type": "deformable_detr"}'},
                downloads=70, likes=70, trend=70, gated=True)  # fmt: skip
    running.add("acme/yolo11t", {"onnx/model.onnx": model.SerializeToString()}, tags=["yolo"],
                library="ultralytics", licence="agpl-3.0")  # fmt: skip
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    """Of a command: nothing of this machine's settings, both hubs on this machine."""
    kept = {
        key: os.environ[key] for key in ("PATH", "PYTHONPATH", "HOME", "LANG") if key in os.environ
    }
    return kept | {
        "SEATRIAL_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    modules = ("seatrial.cli.models", "seatrial.models.hubs.pull", "seatrial.models.import_onnx")
    with Commands(*modules, "onnx", "rich.progress", "httpx2") as running:
        yield running


@pytest.fixture
def run(
    commands: Commands, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("search", "detr", HF_TOKEN="...")``."""
    return lambda *arguments, **changes: commands.run(
        "models", *arguments, environment=environment | changes
    )


@pytest.fixture
def kept(environment: dict[str, str]) -> Store:
    return Store(Path(environment["SEATRIAL_HOME"]) / "artifacts")


def test_search_prints_a_table(run: Callable[..., Any]) -> None:
    done = run("search", "detr", "--task", "object-detection", "--sort", "downloads")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")]
            for line in done.stdout.splitlines() if line.startswith("│")]  # fmt: skip
    assert rows == [
        ["facebook/detr-resnet-50", "900", "9", "apache-2.0", "166.0 kB", "2026-05-04", "detr"],
        ["acme/deformable-detr", "70", "70", "apache-2.0 (gated)", "-", "2026-05-04",
         "no (deformable_detr)"],
        ["acme/detr-old", "50", "0", "apache-2.0", "-", "2026-05-04", "detr (--allow-pickle)"],
    ]  # fmt: skip
    assert done.stderr == "seatrial models pull huggingface:facebook/detr-resnet-50\n"


@pytest.mark.parametrize(
    ("source", "sort", "first"),
    [
        ("huggingface", "downloads", "facebook/detr-resnet-50"),
        ("huggingface", "likes", "acme/deformable-detr"),
        ("huggingface", "trending", "acme/deformable-detr"),
        ("modelscope", "downloads", "facebook/detr-resnet-50"),
        ("modelscope", "likes", "acme/deformable-detr"),
    ],
)
def test_search_as_json(run: Callable[..., Any], source: str, sort: str, first: str) -> None:
    done = run("search", "detr", "--sort", sort, "--source", source, "--limit", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    models = json.loads(done.stdout)
    assert len(models) == 2
    assert models[0]["name"] == first
    assert models[0]["reference"] == f"{source}:{first}"
    assert {"downloads", "likes", "licence", "size_bytes", "updated", "verdict"} < set(models[0])


def test_search_that_finds_nothing(run: Callable[..., Any]) -> None:
    done = run("search", "nothing like it")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing on huggingface fits" in done.stderr
    assert json.loads(run("search", "nothing like it", "--json").stdout) == []


def test_what_search_names_can_be_pulled(run: Callable[..., Any], kept: Store) -> None:
    (model,) = json.loads(run("search", "yolo", "--json").stdout)
    done = run("pull", model["reference"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{kept.root / 'yolo11t-onnx'}\n"
    assert "asking Hugging Face for acme/yolo11t" in done.stderr
    assert "yolo, 64x64, 3 classes, onnx" in done.stderr
    assert kept.open("yolo11t-onnx").manifest.source.uri.startswith(FILE + "@")


def test_the_second_pull_is_silent_on_the_wire(run: Callable[..., Any], hub: Any) -> None:
    first = run("pull", FILE)
    hub.seen.clear()
    second = run("pull", FILE)
    assert second.stdout == first.stdout
    assert "is in the store already" in second.stderr
    assert hub.seen == []


def test_a_name_of_ones_own(run: Callable[..., Any], kept: Store) -> None:
    assert run("pull", FILE, "--name", "mine").returncode == 0
    assert kept.names() == ["mine"]
    done = run("pull", "yolo11n", "--name", "mine")
    assert done.returncode == 2
    assert "leave out --name" in done.stderr
    done = run("pull", "yolo11n", "--labels", "coco")
    assert (done.returncode, "--labels is for graphs" in done.stderr) == (2, True)


def test_a_pickle_is_refused(run: Callable[..., Any], kept: Store) -> None:
    done = run("pull", "huggingface:acme/detr-old")
    assert done.returncode == 3
    assert "error: acme/detr-old has its weights as a pickle only" in done.stderr
    assert "--allow-pickle" in done.stderr
    assert kept.names() == []


def test_help_gives_the_first_example(run: Callable[..., Any]) -> None:
    done = run("pull", "--help")
    assert "huggingface:facebook/detr-resnet-50" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        (["pull", FILE], {"HF_ENDPOINT": "http://127.0.0.1:9"}, 5, "HF_ENDPOINT=https://"),
        (["search", "x"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, 5, "cannot be reached"),
        (["search", "x", "--source", "modelscope"], {"MODELSCOPE_ENDPOINT": "127.0.0.1:9"}, 5,
         "MODELSCOPE_ENDPOINT=https://"),
        (["search", "x"], {"HF_ENDPOINT": "ftp://x"}, 2, "HF_ENDPOINT='ftp://x' is not the addr"),
        (["search", "x"], {"HF_HUB_OFFLINE": "1"}, 5, "HF_HUB_OFFLINE is set"),
        (["search", "x"], {"http_proxy": "http://127.0.0.1:9"}, 5, "cannot be reached"),
        (["pull", "huggingface:acme/yolo11"], {}, 2, "did you mean huggingface:acme/yolo11t?"),
        (["pull", "hf:acme/yolo11"], {}, 2, "huggingface:facebook/detr-resnet-50"),
        (["pull", "yolo99"], {}, 2, "huggingface:facebook/detr-resnet-50"),
        (["search", "x", "--limit", "0"], {}, 2, "1 to 1000"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_a_hint(
    run: Callable[..., Any], arguments: list[str], settings: dict[str, str], code: int, said: str
) -> None:
    done = run(*arguments, **settings)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


def test_no_proxy_is_respected(run: Callable[..., Any]) -> None:
    done = run("search", "detr", "--json", http_proxy="http://127.0.0.1:9", no_proxy="127.0.0.1")
    assert done.returncode == 0, done.stderr


def test_the_token_of_the_environment_opens_a_gated_model(
    run: Callable[..., Any], hub: Any, environment: dict[str, str]
) -> None:
    hub.repos["acme/yolo11t"].gated = True
    done = run("pull", FILE)
    assert done.returncode == 5
    assert "accept them on the model's page, then set HF_TOKEN" in done.stderr
    # What hf auth login left goes to the hub itself, not to whoever is named as a mirror.
    (Path(environment["HF_HOME"])).mkdir()
    (Path(environment["HF_HOME"]) / "token").write_text(hub.token)
    assert run("pull", FILE).returncode == 5
    assert run("pull", FILE, HF_TOKEN=hub.token).returncode == 0


def test_the_older_setting_of_modelscope(run: Callable[..., Any], hub: Any) -> None:
    changes = {"MODELSCOPE_ENDPOINT": "", "MODELSCOPE_DOMAIN": hub.url}
    done = run("search", "detr", "--source", "modelscope", "--json", **changes)
    assert done.returncode == 0, done.stderr
    assert hub.seen


def test_ctrl_c_leaves_the_store_as_it_was(
    run: Callable[..., Any], hub: Any, environment: dict[str, str], kept: Store
) -> None:
    gate = threading.Event()
    hub.faults += [hub_server.Fault("/cdn/", cut=2_000_000), hub_server.Fault("/cdn/", hang=gate)]
    process = subprocess.Popen(
        [sys.executable, "-m", "seatrial.cli.main", "models", "pull", FILE],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while len(hub.asked("/cdn/")) < 2:  # it is in the middle of the file
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        gate.set()
        process.kill()
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert kept.names() == []
    assert not kept.root.exists() or not list(kept.root.iterdir())
    hub.seen.clear()
    assert run("pull", FILE).returncode == 0
    assert hub.asked("/cdn/")[0].headers["Range"] == "bytes=2000000-"


def test_a_terminal_shows_a_bar(environment: dict[str, str]) -> None:
    shown = in_terminal(["pull", FILE], environment)
    assert re.search(r"onnx/model\.onnx .*3\.0/3\.0 MB", shown), shown


def test_a_pipe_shows_no_bar(run: Callable[..., Any]) -> None:
    done = run("pull", FILE)
    assert "MB" not in done.stderr
    assert "\x1b" not in done.stderr


def in_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """What a command writes to a terminal as its stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "seatrial.cli.main", "models", *arguments],
        env=environment | {"TERM": "xterm", "COLUMNS": "160"}, stdout=subprocess.DEVNULL,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait(60) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.fixture
def seatrial(
    commands: Commands, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``seatrial("detect", "a.jpg", "--model", "m.onnx")``."""
    return lambda *arguments: commands.run(*arguments, environment=environment)


def test_every_command_imports_a_model_file_as_the_same_artifact(
    seatrial: Callable[..., Any], kept: Store, model_file: Any, photo: bytes, tmp_path: Path
) -> None:
    model, images = model_file(), tmp_path / "images"
    images.mkdir()
    (images / "a.jpg").write_bytes(photo)
    export = ["--to", "openvino", "--images", images, "--name", "exported"]
    for command in (
        ["detect", images / "a.jpg", "--model", model],
        ["models", "show", model],
        ["export", model, *export],
    ):
        done = seatrial(*command)
        assert done.returncode == 0, done.stderr
        (name,) = kept.imports.names()
        assert name.startswith("tiny-")
    assert kept.names() == ["exported"]
    assert kept.open("exported").manifest.parent == kept.open(name).digest


def test_the_import_of_an_rf_detr_says_which_column_is_its_background(
    seatrial: Callable[..., Any], tmp_path: Path
) -> None:
    graph = heads.rf_detr(tmp_path / "rf.onnx", size_hw=(96, 128), classes=3)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    done = seatrial("models", "import", graph)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "column 2 of its scores is taken as the background" in said
    assert "--labels FILE: one name for each column" in said


def test_every_command_refuses_a_pickle_alike_and_names_a_command_that_takes_it(
    seatrial: Callable[..., Any], kept: Store, photo: bytes, tmp_path: Path
) -> None:
    weights, image = tmp_path / "weights.pt", tmp_path / "a.jpg"
    weights.write_bytes(b"PK")
    image.write_bytes(photo)
    told = set()
    for command in (
        ["detect", image, "--model", weights],
        ["export", weights, "--to", "onnx", "--images", tmp_path],
        ["models", "import", weights],
        ["models", "show", weights],
    ):
        done = seatrial(*command)
        assert done.returncode == 3, done.stderr
        told.add("".join(done.stderr.split()))
    assert len(told) == 1, told
    hint = f"seatrial models import {weights} --allow-pickle"
    assert "".join(hint.split()) in told.pop()
    # The command that the hint names takes the option: what fails is the file.
    done = seatrial("models", "import", weights, "--allow-pickle")
    assert "is a pickle" not in done.stderr
    assert done.returncode in (3, 4), done.stderr  # damaged; or Ultralytics is not installed
    assert kept.names() == []


def test_gc_removes_what_killed_commands_left(
    run: Callable[..., Any], kept: Store, tmp_path: Path
) -> None:
    left = kept.root / ".staging-1"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(bytes(2000))
    os.utime(left, (0, 0))
    with kept.staging() as running:
        os.utime(running, (0, 0))
        done = run("gc", "--dry-run")
        assert (done.stdout, left.is_dir()) == (f"{left}\n", True)
        assert "would be removed: 1 folder, 2.0 kB" in done.stderr
        done = run("gc", "--json")
        assert (json.loads(done.stdout), done.returncode) == ([str(left)], 0)
        assert [*kept.root.iterdir()] == [running]
    assert "removed: 0 folders, 0 bytes" in run("gc").stderr
