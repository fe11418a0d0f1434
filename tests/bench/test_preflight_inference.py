"""The first questions in the Open Inference Protocol, and a benchmark by each protocol."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seatrial import __version__
from seatrial.artifact import Artifact
from seatrial.bench.options import BenchOptions
from seatrial.bench.preflight import probe, recognise
from seatrial.bench.preflight_inference import probe_inference
from seatrial.bench.report import to_html
from seatrial.bench.run import run_benchmark
from seatrial.cli.bench import bench
from seatrial.deployment import Limits, Server
from seatrial.errors import InvalidConfig, ServiceFailed, Unauthorized
from seatrial.load.images import EncodedImage, load_images
from seatrial.load.target import Target, bodies
from seatrial.serve.address import free_port
from served_application import Running, serve_application

pytestmark = pytest.mark.usefixtures("time_limit")
BY = pytest.mark.parametrize("protocol", ["v2", "grpc"])


@pytest.fixture(scope="module")
def serving(tiny_artifact: Artifact) -> Iterator[Running]:
    with serve_application(tiny_artifact, Limits(deadline_s=30.0), grpc=True) as running:
        yield running


@pytest.fixture
def target(serving: Running, protocol: Any) -> Target:
    """The service by one of the protocols."""
    port = serving.grpc_port if protocol == "grpc" else serving.port
    scheme = "grpc" if protocol == "grpc" else "http"
    return Target(f"{scheme}://127.0.0.1:{port}", protocol=protocol)


def probed(target: Target, folder: Path, *, ready_s: float = 10.0) -> tuple[Any, str, int]:
    images = load_images(folder).images
    service, prepared = asyncio.run(probe_inference(target, images, ready_s, 20.0))
    return service.model, service.target.path, len(prepared)


def named(target: Target, path: str) -> Target:
    return Target(target.url, path=path, protocol=target.protocol)


@BY
def test_the_first_model_that_takes_images_is_measured_unless_another_is_named(
    target: Target, image_folder: Path
) -> None:
    goes_to = "/tiny" if target.protocol == "grpc" else "/v2/models/tiny/infer"
    for path in ("/detect", "/tiny", "tiny", "/v2/models/tiny/infer"):
        model, where, count = probed(named(target, path), image_folder)
        assert (model["name"], model["engine"]) == ("tiny", "onnxruntime")
        assert (where, count) == (goes_to, 20)


@BY
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("other", "does not describe the model 'other': there is no model 'other'"),
        ("tiny.graph", r"no model that takes an encoded image: tiny.graph takes image UINT8"),
    ],
)
def test_a_model_that_does_not_fit(
    target: Target, image_folder: Path, path: str, message: str
) -> None:
    with pytest.raises(ServiceFailed, match=message):
        probed(named(target, path), image_folder)


@BY
def test_images_that_are_refused_are_named(target: Target) -> None:
    broken = [EncodedImage("x.jpg", b"hello", "image/jpeg", 1, 1)]
    with pytest.raises(ServiceFailed, match=r"inference of 'tiny' is refused .*known formats"):
        asyncio.run(probe_inference(target, broken, 1.0, 20.0))


def test_a_service_that_wants_a_token(
    tiny_artifact: Artifact, image_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text("a-token-of-this-test\n")
    server = Server(token_file=str(file))
    with serve_application(tiny_artifact, server=server, grpc=True) as running:
        for port, scheme, protocol in (
            (running.grpc_port, "grpc", "grpc"),
            (running.port, "http", "v2"),
        ):
            for path in ("/detect", "/tiny"):
                target = Target(f"{scheme}://127.0.0.1:{port}", path=path, protocol=protocol)
                with pytest.raises(Unauthorized, match="needs a token: ") as caught:
                    probed(target, image_folder)
                assert "--token-file" in caught.value.hint


@BY
def test_a_service_that_is_not_ready_or_not_there(
    serving: Running, target: Target, image_folder: Path
) -> None:
    health = serving.service.health
    usable, health.usable_lanes = health.usable_lanes, lambda: 0
    try:
        with pytest.raises(ServiceFailed, match="is not ready after 0 s"):
            probed(target, image_folder, ready_s=0.0)
    finally:
        health.usable_lanes = usable
    scheme = target.url.partition(":")[0]
    nowhere = Target(f"{scheme}://127.0.0.1:{free_port('127.0.0.1')}", protocol=target.protocol)
    with pytest.raises(ServiceFailed, match=r"127\.0\.0\.1"):
        probed(nowhere, image_folder)


def test_a_benchmark_by_every_protocol(
    serving: Running, quick: Callable[..., BenchOptions]
) -> None:
    options = quick(sessions=(2,), point_s=1.0)
    web = f"http://127.0.0.1:{serving.port}"
    for given, path, words in (
        (Target(f"grpc://127.0.0.1:{serving.grpc_port}"), "/tiny", "over gRPC"),
        (Target(web), "/detect", "raw body"),
        (Target(web, protocol="v2"), "/v2/models/tiny/infer", "Protocol over HTTP"),
    ):
        report = run_benchmark(given, options)
        assert (report.target.url, report.target.path) == (given.url, path)
        assert report.target.protocol is not None
        assert (report.model or {})["name"] == "tiny"
        (point,) = report.runs[0].points
        assert (point.good > 0, point.failed) == (True, 0)
        assert point.detections_mean is not None
        assert point.stages is not None
        assert words in to_html(report)


def test_over_grpc_the_server_says_which_it_is(serving: Running, image_folder: Path) -> None:
    model, _, _ = probed(Target(f"grpc://127.0.0.1:{serving.grpc_port}"), image_folder)
    assert model["server"] == f"seatrial {__version__}"


class Foreign(BaseHTTPRequestHandler):
    """A server that has the Open Inference Protocol alone, and answers the rest with 400."""

    def do_GET(self) -> None:
        told = {
            "/v2": b'{"name": "triton", "version": "2.51.0", "extensions": []}',
            "/v2/health/ready": b"",
            "/v2/models/other": b'{"name": "other", "platform": "x", "inputs": []}',
            "/v2/models/moved": b'{"name": "moved", "platform": "x", "inputs": '
            b'[{"name": "i", "datatype": "BYTES", "shape": [1]}]}',
        }
        self.answer(200 if self.path in told else 400, told.get(self.path, b'{"error": "what?"}'))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v2/models/moved/infer":
            self.answer(308, b"", location="/v3/models/moved/infer")
            return
        known = self.path == "/v2/repository/index"
        self.answer(200 if known else 400, b'[{"name": "other"}]' if known else b'{"error": "no"}')

    def answer(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None: ...


@pytest.fixture
def foreign() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_knows_nothing_else_is_measured_by_the_inference_protocol(
    foreign: str, image_folder: Path
) -> None:
    assert asyncio.run(recognise(Target(foreign), 10.0)) == "v2"
    with pytest.raises(ServiceFailed, match=r"has no model that takes .*: other takes nothing"):
        probed(Target(foreign, protocol="v2"), image_folder)
    with pytest.raises(
        ServiceFailed, match="of 'moved' is redirected with 308: the new place is /v3"
    ):
        probed(Target(foreign, path="moved", protocol="v2"), image_folder)
    images = Target(foreign, protocol="http")
    prepared = bodies(images, load_images(image_folder).images)
    with pytest.raises(ServiceFailed, match="POST /detect is refused with 400: no") as refused:
        asyncio.run(probe(images, prepared, 1.0, 10.0))
    assert "--protocol v2" in refused.value.hint


def test_the_protocol_has_to_fit_the_address(
    quick: Callable[..., BenchOptions], tmp_path: Path
) -> None:
    for url, protocol in (("http://127.0.0.1:1", "grpc"), ("grpc://127.0.0.1:1", "v2")):
        with pytest.raises(InvalidConfig, match=f"the protocol {protocol} does not fit"):
            bench(options=quick(), url=url, protocol=(protocol,), output=tmp_path)
