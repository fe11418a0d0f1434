"""A real Triton server, that of its wheel: the detections of our service, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import local_http
from fresh_environments import ENVIRONMENT
from open_inference import columns
from seatrial.artifact import Artifact, Store
from seatrial.deployment import CoreLayout, Limits, Triton
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes import triton_process
from seatrial.serve.triton.backends import GraphRunner
from seatrial.serve.triton.model_config import Shape, detector_config, graph_config
from seatrial.serve.triton.repository import Packaged, write_repository
from seatrial.serve.triton.running import RunningTriton
from seatrial.serve.triton.server import TritonServer, find_server
from triton_serving import ENGINE, HOST, Told, ask, deployment_of, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("time_limit")]

# A request of these takes a lane seconds, whatever the machine.
LARGE_HW, LARGE_IMAGES = (4900, 4900), 12
REQUESTS = 12  # of them, at once
GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "triton.md"


def named(artifact: Artifact, name: str, folder: Path) -> Artifact:
    """The same artifact by another name."""
    store = Store(folder / "store")
    manifest = msgspec.structs.replace(artifact.manifest, name=name, files=())
    with store.staging() as staged:
        for file in artifact.manifest.files:
            (staged / file.path).write_bytes((artifact.path / file.path).read_bytes())
        return store.commit(staged, manifest)


class Running:
    """A server with four detectors, and what a client is told by it.

    - ``tiny``: two lanes, the graph in the detector's processes.
    - ``asking``: another model runs the graph, as where that is not Python.
    - ``narrow``: one lane, a queue of 3 requests, which wait 0.75 s at most.
    """

    def __init__(self, folder: Path, python: Path, artifact: Artifact) -> None:
        self.folder, self.python = folder, python
        self.repository = folder / "repository"
        self.tiny = self.write(artifact, layout=CoreLayout(workers=1, instances=2, threads=1))
        asking = named(artifact, "asking", folder)
        self.write(asking, backend=ENGINE)
        # Its graph in Python, since the wheel has no other backend.
        self.write(asking, repository=folder / "other")
        graph = self.repository / "asking.graph"
        graph.rename(folder / "asking.graph")
        (folder / "other" / "asking.graph").rename(graph)
        limits = Limits(queue=3, deadline_s=1.0)
        self.write(named(artifact, "narrow", folder), engine="null", limits=limits)
        (self.repository / "narrow.graph").rename(folder / "narrow.graph")
        self.ports = free_ports()
        self.deployment = deployment_of(artifact, triton=Triton(python=str(python)))
        self.server = find_server(folder / "server", self.deployment)

    def write(self, artifact: Artifact, **options: Any) -> Packaged:
        backend = options.pop("backend", "python")
        repository = options.pop("repository", self.repository)
        deployment = deployment_of(artifact, **options)
        return write_repository(repository, artifact, deployment, backend=backend)

    def start(self) -> RunningTriton:
        packaged = self.tiny
        started = triton_process.start(self.server, packaged, self.deployment, self.ports)
        assert started.wait_ready(120)
        return started

    def client(self, *words: str | Path) -> Told:
        """See `triton_serving.ask`."""
        return ask(self.python, self.ports, *words)

    def config(self, model: str) -> Told:
        found: Told = local_http.get(
            f"http://{HOST}:{self.ports.http}/v2/models/{model}/config"
        ).json()
        return found


@pytest.fixture(scope="module")
def running(
    triton_python: Path, tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    server = Running(tmp_path_factory.mktemp("serving"), triton_python, tiny_artifact)
    started = server.start()
    yield server
    assert started.end() == 0


@pytest.fixture(scope="module")
def told(running: Running, images: Path) -> Told:
    """What the client was told, in one run of it."""
    return running.client("ask", images)


@pytest.fixture(scope="module")
def service(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """Our own service, on the engine that the models have in Triton."""
    layout = CoreLayout(1, 1, 1, wide=False)
    with start_service(engine=ENGINE, layout=layout, runtime="uvicorn") as ours:
        yield ours


@pytest.fixture(scope="module")
def detected(service: ServiceProcess, images: Path) -> list[Told]:
    """What our own service finds in the images."""
    return [
        local_http.post(f"{service.url}/detect", content=file.read_bytes()).json()
        for file in sorted(images.iterdir())
    ]


@pytest.mark.parametrize("model", ["tiny", "asking"])
@pytest.mark.parametrize("way", ["http", "grpc"])
def test_boxes_are_those_of_our_service(
    told: Told, detected: list[Told], model: str, way: str
) -> None:
    wanted = columns(detected[0])
    assert wanted["counts"] == [2]
    assert told[f"{model} {way}"] == wanted
    assert told[f"{model} {way} several"] == columns(*detected)


def test_requests_have_parameters_and_errors_reach_the_caller(told: Told) -> None:
    assert told["confident"]["counts"] == [0]
    assert told["urgent"]["counts"] == [2]
    assert told["scores alone"] == ["scores"]
    assert told["no parameter"][0] == "400"
    assert "did you mean 'confidence'?" in told["no parameter"][1]
    assert told["no image"][0] == "400"
    assert told["no second image"][0] == "StatusCode.INVALID_ARGUMENT"
    assert told["no second image"][1].startswith("image 1: ")


def test_the_graph_gives_the_same_in_both_places(told: Told) -> None:
    output = np.array(told["graph"], np.float32)
    assert output.shape == (1, 7, 64)
    at = 2 * 8 + 3  # the red cell
    assert output[0, 4, at] > 0.5 > output[0, 5:, at].max()


def test_a_deadline_of_a_request_holds(told: Told) -> None:
    assert told["late http"] == ["503", "Request timeout expired"]
    assert told["late grpc"] == ["StatusCode.UNAVAILABLE", "Request timeout expired"]


def test_a_full_queue_refuses_and_what_waits_too_long_is_dropped(
    running: Running, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.new("L", LARGE_HW).save(large)
    answers = running.client("overload", large, "narrow", str(LARGE_IMAGES), str(REQUESTS))[
        "answers"
    ]
    kinds = {
        kind: sum(kind in answer for answer in answers)
        for kind in ("answered", "Exceeds maximum queue size", "Request timeout expired")
    }
    assert sum(kinds.values()) == REQUESTS, answers
    assert kinds["answered"] >= 1
    assert kinds["Exceeds maximum queue size"] >= REQUESTS - 3 - 3  # a queue of 3; few run
    assert kinds["Request timeout expired"] >= 1


def flat(message: object, path: str = "") -> dict[str, object]:
    """Path of each field -> value, without what protobuf leaves at its default."""
    if isinstance(message, Mapping):
        each = message.items()
    elif isinstance(message, list):
        each = dict(enumerate(message)).items()
    else:
        # JSON of protobuf has numbers of 64 bits as text.
        text = str(int(message)) if isinstance(message, bool) else str(message)
        return {} if text in ("", "0") else {path: text}
    return {k: v for key, value in each for k, v in flat(value, f"{path}/{key}").items()}


@pytest.mark.parametrize("model", ["tiny", "tiny.graph"])
def test_every_field_of_the_configuration_is_what_the_server_has(
    running: Running, tiny_artifact: Artifact, model: str
) -> None:
    make = graph_config if model.endswith(".graph") else detector_config
    deployment = deployment_of(tiny_artifact)
    written = flat(make(tiny_artifact, deployment, GraphRunner("python"), Shape(2, 1)))
    served = flat(running.config(model))
    assert {path: served.get(path) for path in written} == written
    # Nothing that was not written, but for what the server fills in.
    filled = {"/default_model_filename", "/instance_group/0/name"}
    own = ("/optimization/", "FORMAT_NONE", "/input/0/format")
    assert {p for p in served if p not in written and not p.startswith(own)} == filled


def test_metadata_is_that_of_our_service(running: Running, service: ServiceProcess) -> None:
    for model in ("tiny", "tiny.graph"):
        there = local_http.get(f"http://{HOST}:{running.ports.http}/v2/models/{model}").json()
        here = local_http.get(f"{service.url}/v2/models/{model}").json()
        for side in ("inputs", "outputs"):
            assert there[side] == here[side]
        assert there["versions"] == here["versions"]


def test_the_server_of_the_wheel_is_found_in_its_environment(running: Running) -> None:
    server: TritonServer = running.server
    assert server.backends == {"python"}
    assert server.words.startswith("the tritonserver of nvidia-pytriton in ")
    assert server.environment["PATH"].split(":")[0] == str(running.python.parent)


def test_the_example_of_the_guide_runs(running: Running, images: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    for name, index in (("a.jpg", 0), ("b.jpg", 2)):
        (tmp_path / name).write_bytes((images / f"{index}.jpg").read_bytes())
    code = example.replace(":3000", f":{running.ports.http}").replace(", timeout=500_000", "")
    done = subprocess.run(
        [running.python, "-W", "ignore", "-c", code],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[2 1] ")
