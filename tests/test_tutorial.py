"""The tutorial, from the first command to the last, on a small set and a small random model."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from documents import Reader
from hub_server import FakeHub
from packages import skip_without
from seatrial.serve.address import free_port
from tiny_networks import build_network, save_snapshot

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial"
PAGES = [
    TUTORIAL / f"{number}-{name}.md"
    for number, name in enumerate(
        ("choose", "demo", "finetune", "accelerate", "serve", "measure"), 1
    )
]
HUB_NAME = "ustc-community/dfine-nano-coco"
# What several commands import.
IMPORTED = (
    "cyclopts", "cv2", "PIL.Image", "rich.table", "rich.progress", "onnx", "openvino",
    "onnxruntime", "torch.export", "torch.onnx", "transformers.modeling_utils",
    "transformers.models.d_fine.modeling_d_fine", "httptools", "bentoml",
    "seatrial.cli.main", "seatrial.models.resolve", "seatrial.models.hubs.pull",
    "seatrial.models.import_checkpoint", "seatrial.datasets.read", "seatrial.accuracy.evaluate",
    "seatrial.export.run", "seatrial.train.run", "seatrial.cli.detect", "seatrial.cli.evaluate",
    "seatrial.cli.finetune", "seatrial.cli.judge", "seatrial.serve.startup", "seatrial.bench.run",
)  # fmt: skip


@pytest.fixture(scope="module")
def hub(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub on this machine, with a small D-FINE by the name of the real one."""
    folder = tmp_path_factory.mktemp("snapshot")
    save_snapshot(build_network(transformers, "d_fine"), folder, "d_fine")
    running = FakeHub()
    try:
        running.add(HUB_NAME, {path.name: path.read_bytes() for path in folder.iterdir()})
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def reader(
    hub: FakeHub, photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Reader:
    skip_without("gradio", "sklearn", "bentoml", "httptools", extra="all,train,demo")
    folder = tmp_path_factory.mktemp("tutorial") / "work"
    folder.mkdir()
    # What `data sample photos` would download and decode is there already: it finds it.
    shutil.copytree(photos["astronaut"].parent, folder / "photos")
    serve, demo = free_port("127.0.0.1"), free_port("127.0.0.1")
    changes = {
        "--count 1200": "--count 80 --backgrounds bundled",
        "epochs = 30": "epochs = 1",
        "batch = 16": "batch = 8",
        "image_size = 320": "image_size = 64",
        # A random model learns nothing in an epoch: the verdict is tested elsewhere.
        "ap50 = 0.70": "ap50 = 0.0",
        "goodput_per_s = 10.0": "goodput_per_s = 0.1",
        "at_most_ms = 100.0": "at_most_ms = 60000.0",
        "memory_mib = 1500.0": "memory_mib = 16000.0",
        "seatrial judge ": "seatrial judge --warmup-s 0.2 --point-s 1 --sessions 1 2 "
        "--single-stream-requests 64 ",
        "port = 3000": f"port = {serve}",
        "127.0.0.1:3000": f"127.0.0.1:{serve}",
        "seatrial demo gradio": f"seatrial demo gradio --port {demo}",
    }
    return Reader(
        folder,
        changes,
        {"seatrial serve": serve, "seatrial demo": demo},
        {
            "SEATRIAL_HOME": str(folder.parent / "home"),
            "HF_ENDPOINT": hub.url,
        },
    )


def test_pages_are_in_order_and_lead_to_one_another():
    index = (TUTORIAL / "README.md").read_text()
    assert re.findall(r"\]\((\d-\w+\.md)\)", index) == [page.name for page in PAGES]
    for page, following in itertools.pairwise(PAGES):
        assert page.read_text().rstrip().endswith(f"]({following.name})")


def test_links_lead_somewhere():
    for page in TUTORIAL.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_every_command_runs(reader: Reader):
    with reader.forking(*IMPORTED):
        printed = {page.stem: reader.follow(page) for page in PAGES}
    assert not reader.left, "changes that no page has any more"
    assert HUB_NAME in printed["1-choose"][1].replace("\n", "")
    assert (reader.folder / "boxes.jpg").is_file()
    assert (reader.folder / "preview.jpg").is_file()
    # The finetuned model knows digits, and is what is served.
    served = printed["5-serve"][1]
    assert '"labels":["0","1","2","3","4","5","6","7","8","9"]' in served
    assert "UnsupportedImage" in printed["5-serve"][2]
    assert "digits holds" in printed["6-measure"][0]
    assert (reader.folder / "run" / "verdict.html").is_file()
    assert (reader.folder / "run" / "report.html").is_file()
