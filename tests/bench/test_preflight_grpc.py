"""The first questions over gRPC, and a benchmark of a real service through both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.bench.options import BenchOptions
from seatrial.bench.preflight_grpc import probe_grpc
from seatrial.bench.run import run_benchmark
from seatrial.cli.bench import bench
from seatrial.deployment import Limits
from seatrial.errors import InvalidConfig, ServiceFailed
from seatrial.load.images import EncodedImage, load_images
from seatrial.load.target import Target
from seatrial.serve.address import free_port
from served_application import Running, serve_application

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(tiny_artifact: Artifact) -> Iterator[Running]:
    with serve_application(tiny_artifact, Limits(deadline_s=30.0), grpc=True) as running:
        yield running


@pytest.fixture
def address(serving: Running) -> str:
    return f"grpc://127.0.0.1:{serving.grpc_port}"


def probed(target: Target, folder: Path, *, ready_s: float = 10.0) -> tuple[object, int]:
    images = load_images(folder).images
    service, prepared = asyncio.run(probe_grpc(target, images, ready_s, 20.0))
    return service.model, len(prepared)


def test_the_first_model_is_measured_unless_another_is_named(
    address: str, image_folder: Path
) -> None:
    described = {"name": "tiny", "engine": "onnxruntime"}
    assert probed(Target(address), image_folder) == (described, 20)
    assert probed(Target(address, path="/tiny"), image_folder) == (described, 20)


@pytest.mark.parametrize(
    ("path", "message"),
    [("other", "does not describe the model 'other'"), ("tiny.graph", "refused")],
)
def test_a_model_that_does_not_fit(
    address: str, image_folder: Path, path: str, message: str
) -> None:
    with pytest.raises(ServiceFailed, match=message):
        probed(Target(address, path=path), image_folder)


def test_images_that_are_refused_are_named(address: str) -> None:
    broken = [EncodedImage("x.jpg", b"hello", "image/jpeg", 1, 1)]
    with pytest.raises(ServiceFailed, match=r"ModelInfer of 'tiny' is refused .*known formats"):
        asyncio.run(probe_grpc(Target(address), broken, 1.0, 20.0))


def test_a_service_that_is_not_ready_or_not_there(
    serving: Running, address: str, image_folder: Path
) -> None:
    health = serving.service.health
    usable, health.usable_lanes = health.usable_lanes, lambda: 0
    try:
        with pytest.raises(ServiceFailed, match="is not ready after 0 s"):
            probed(Target(address), image_folder, ready_s=0.0)
    finally:
        health.usable_lanes = usable
    with pytest.raises(ServiceFailed, match=r"127\.0\.0\.1"):
        probed(Target(f"grpc://127.0.0.1:{free_port('127.0.0.1')}"), image_folder)


def test_a_benchmark_through_either_protocol(
    serving: Running, address: str, quick: Callable[..., BenchOptions]
) -> None:
    options = quick(sessions=(2,), point_s=0.5)
    for url, path in ((address, "/tiny"), (f"http://127.0.0.1:{serving.port}", "/detect")):
        report = run_benchmark(Target(url), options)
        assert (report.target.url, report.target.path) == (url, path)
        assert (report.model or {})["name"] == "tiny"
        (point,) = report.runs[0].points
        assert point.good > 0
        assert point.failed == 0


def test_the_protocol_has_to_fit_the_address(
    quick: Callable[..., BenchOptions], tmp_path: Path
) -> None:
    for url, protocol in (("http://127.0.0.1:1", "grpc"), ("grpc://127.0.0.1:1", "http")):
        with pytest.raises(InvalidConfig, match=f"--protocol {protocol} does not fit"):
            bench(options=quick(), url=url, protocol=protocol, output=tmp_path)
