"""A hub on 127.0.0.1, and models on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import numpy_helper

from hub_repositories import Repo
from hub_server import FakeHub, Fault
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access
from seatrial.models.hubs.client import HubClient
from seatrial.models.hubs.huggingface import HuggingFace
from seatrial.models.hubs.modelscope import ModelScope
from seatrial.models.hubs.pull import PullOptions

DETR = b'{"model_type": "detr"}'


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """An empty hub."""
    fake = FakeHub()
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def fault() -> type[Fault]:
    """Makes a `Fault`: ``hub.faults.append(fault("/cdn/", cut=1000))``."""
    return Fault


@pytest.fixture
def access(hub: FakeHub) -> Access:
    """The way to it, without patience."""
    return Access(
        msgspec.structs.replace(HUGGINGFACE, endpoint=hub.url),
        msgspec.structs.replace(MODELSCOPE, endpoint=hub.url),
        timeout_s=10.0,
        patience_s=0.0,
    )


@pytest.fixture(params=["huggingface", "modelscope"])
def source(request: pytest.FixtureRequest) -> str:
    """Each hub in turn."""
    return str(request.param)


@pytest.fixture
def client_of(access: Access) -> Callable[[str], HubClient]:
    """The client of a hub by its name."""
    pytest.importorskip("huggingface_hub", reason="seatrial[hub] is not installed")
    pytest.importorskip("modelscope_hub", reason="seatrial[hub] is not installed")
    return lambda source: (HuggingFace if source == "huggingface" else ModelScope)(access)


@pytest.fixture
def options(access: Access, tmp_path: Path) -> PullOptions:
    """Pulls from the hub into a folder beside the store."""
    return PullOptions(access, tmp_path / "downloads")


@pytest.fixture(scope="session")
def weighty(tiny_model: Callable[..., Any]) -> bytes:
    """The tiny detector as an ONNX file of some 3 MB."""
    model = tiny_model()
    ballast = np.random.default_rng(0).standard_normal(750_000).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    return bytes(model.SerializeToString())


@pytest.fixture
def yolo(hub: FakeHub, weighty: bytes) -> Repo:
    """A repository with ONNX files."""
    files = {"README.md": b"# yolo", "onnx/model.onnx": weighty, "yolo11t.pt": b"PK"}
    return hub.add("acme/yolo11t", files, tags=["yolo"], library="ultralytics", licence="agpl-3.0")


@pytest.fixture
def many(hub: Any) -> list[str]:
    """250 models with detr in their name, and some others."""
    for number in range(250):
        # Three orders that have nothing to do with each other.
        hub.add(
            f"acme/detr-{number:03d}", {"config.json": DETR, "model.safetensors": b"x"},
            downloads=number * 7 % 250, likes=number * 11 % 250, trend=number * 13 % 250,
        )  # fmt: skip
    hub.add("acme/vit", {"config.json": b"{}"}, task="image-classification", downloads=9999)
    hub.add("acme/detr-panoptic", {"config.json": DETR}, task="image-segmentation")
    return list(hub.repos)
