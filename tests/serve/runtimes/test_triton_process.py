"""A real Triton server, that of its wheel: the detections of our service, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

import local_http
from documents import Reader
from fresh_environments import ENVIRONMENT
from open_inference import columns
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Batching, CoreLayout, Deployment, Limits, Server, Triton
from seatrial.errors import ServiceFailed
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes import triton_process
from seatrial.serve.triton.backends import GraphRunner
from seatrial.serve.triton.model_config import Shape, detector_config, graph_config
from seatrial.serve.triton.own_code import requirements
from seatrial.serve.triton.repository import Packaged, write_repository
from seatrial.serve.triton.running import RunningTriton
from seatrial.serve.triton.server import Ports, TritonServer, find_server
from triton_environment import SERVER, said_until, triton_environment

Told = dict[str, Any]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("time_limit")]

HOST = "127.0.0.1"
ENGINE = "onnxruntime"
PATCHES: list[dict[tuple[int, int], str]] = [
    {(2, 3): "red", (5, 5): "blue"}, {}, {(1, 1): "green"}
]  # fmt: skip
# A request of these takes a lane seconds, whatever the machine.
LARGE_HW, LARGE_IMAGES = (4900, 4900), 12
REQUESTS = 12  # of them, at once
GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "triton.md"
CLIENT = Path(__file__).with_name("triton_client.txt")


def deployment_of(artifact: Artifact, **changes: Any) -> Deployment:
    plain = Deployment(
        str(artifact.path), engine=ENGINE, layout=CoreLayout(workers=1, instances=1, threads=1),
        server=Server(HOST, 0),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def named(artifact: Artifact, name: str, folder: Path) -> Artifact:
    """The same artifact by another name."""
    store = Store(folder / "store")
    manifest = msgspec.structs.replace(artifact.manifest, name=name, files=())
    with store.staging() as staged:
        for file in artifact.manifest.files:
            (staged / file.path).write_bytes((artifact.path / file.path).read_bytes())
        return store.commit(staged, manifest)


def free_ports() -> Ports:
    found: list[int] = []
    for _ in range(3):
        found.append(free_port(HOST, found))
    return Ports(HOST, *found)


class Running:
    """A server with four detectors, and what a client is told by it.

    - ``tiny``: two lanes, the graph in the detector's processes.
    - ``asking``: another model runs the graph, as where that is not Python.
    - ``narrow``: one lane, a queue of 3 requests, which wait 1 s at most.
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

    def client(self, *words: str | Path, ports: Ports | None = None) -> Told:
        """What the client's script prints, in its own environment."""
        at = ports or self.ports
        script = [self.python, "-W", "ignore", "-c", CLIENT.read_text()]
        done = subprocess.run(
            [*script, str(at.http), str(at.grpc), *words],
            env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: Told = json.loads(done.stdout)
        return found

    def config(self, model: str) -> Told:
        found: Told = local_http.get(
            f"http://{HOST}:{self.ports.http}/v2/models/{model}/config"
        ).json()
        return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return triton_environment(tmp_path_factory.mktemp("triton") / "environment", ENGINE)


@pytest.fixture(scope="module")
def running(
    python: Path, tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    server = Running(tmp_path_factory.mktemp("serving"), python, tiny_artifact)
    started = server.start()
    yield server
    assert started.end() == 0


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, patches in enumerate(PATCHES):
        (folder / f"{index}.jpg").write_bytes(encode(picture(patches), "JPEG"))
    Image.new("L", LARGE_HW).save(folder / "large.png")
    return folder


@pytest.fixture(scope="module")
def told(running: Running, images: Path) -> Told:
    """What the client was told, in one run of it."""
    return running.client("ask", images)


@pytest.fixture(scope="module")
def service(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """Our own service, on the engine that the models have in Triton."""
    with start_service(engine=ENGINE, layout=CoreLayout(1, 1, 1, wide=False)) as ours:
        yield ours


@pytest.fixture(scope="module")
def detected(service: ServiceProcess, images: Path) -> list[Told]:
    """What our own service finds in the images."""
    return [
        local_http.post(f"{service.url}/detect", content=file.read_bytes()).json()
        for file in sorted(images.glob("*.jpg"))
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
    running: Running, images: Path
) -> None:
    answers = running.client("overload", images, "narrow", str(LARGE_IMAGES), str(REQUESTS))[
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


# Backends that the wheel does not have -> deployments whose graph they run.
OTHER_BACKENDS: dict[str, list[dict[str, Any]]] = {
    "onnxruntime": [
        {"engine": "onnxruntime"},
        {"engine": "onnxruntime", "device": "cuda"},
        {"engine": "onnxruntime-tensorrt", "device": "cuda", "precision": "f16"},
    ],
    "openvino": [{"engine": "openvino"}, {"engine": "openvino", "precision": "bf16"}],
    "tensorrt": [{"engine": "tensorrt"}, {"engine": "tensorrt", "device": "cuda"}],
}


@pytest.fixture(scope="module")
def others(
    tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Graphs of those deployments -> their folders, which lie in one repository without detectors.

    The graph takes any number of images, so that batches are configured as well.
    """
    folder = tmp_path_factory.mktemp("others")
    repository, found = folder / "repository", {}
    batch = Batching(max_batch=4, max_delay_ms=2.0)
    for backend, deployments in OTHER_BACKENDS.items():
        for index, changes in enumerate(deployments):
            artifact = open_artifact(tiny_model, folder / f"{backend}{index}", backend)
            deployment = deployment_of(artifact, batching=batch, **changes)
            write_repository(repository, artifact, deployment, backend=backend)
            name = artifact.manifest.name
            shutil.rmtree(repository / name)
            found[f"{name}.graph"] = repository / f"{name}.graph"
    return found


def open_artifact(tiny_model: Callable[..., Any], folder: Path, backend: str) -> Artifact:
    """A detector of an open batch; for tensorrt, with a file in the place of an engine's."""
    folder.mkdir()
    onnx.save(tiny_model(batch="N"), folder / "model.onnx")
    store = Store(folder / "store")
    artifact = import_onnx(store, folder / "model.onnx", name=folder.name)
    if backend != "tensorrt":
        return artifact
    formats = {**artifact.manifest.formats, "tensorrt": "model.plan"}
    manifest = msgspec.structs.replace(artifact.manifest, formats=formats, files=())
    second = Store(folder / "second")
    with second.staging() as staged:
        for file in artifact.manifest.files:
            (staged / file.path).write_bytes((artifact.path / file.path).read_bytes())
        (staged / "model.plan").write_bytes(b"an engine of TensorRT, made on another machine")
        return second.commit(staged, manifest)


def test_the_text_is_read_by_tritons_own_definition(
    running: Running, others: dict[str, Path]
) -> None:
    texts = [
        running.repository / "tiny" / "config.pbtxt",
        running.folder / "asking.graph/config.pbtxt",
        *(folder / "config.pbtxt" for folder in others.values()),
    ]
    detector, graph, *rest = running.client("parse", *texts)["parsed"]
    assert detector["instance_group"][0]["count"] == 2
    assert graph["backend"] == ENGINE
    assert graph["default_model_filename"] == "model.onnx"
    assert graph["parameters"]["intra_op_thread_count"] == {"string_value": "1"}
    found = dict(zip(others, rest, strict=True))
    for name, one in found.items():
        assert one["backend"] == name.partition(".")[0][:-1]
        assert one["max_batch_size"] == 4
        file = others[name] / "1" / one["default_model_filename"]
        assert file.is_file(), f"{name} names a file that is not there"

    def accelerator(name: str) -> Any:
        own = found[name]["optimization"]["execution_accelerators"]
        return own["gpu_execution_accelerator"][0]

    assert accelerator("onnxruntime1.graph")["name"] == "cuda"
    assert accelerator("onnxruntime2.graph")["parameters"]["precision_mode"] == "FP16"
    assert found["openvino1.graph"]["parameters"]["HINT_BF16"] == {"string_value": "YES"}
    assert found["tensorrt1.graph"]["instance_group"][0]["kind"] == "KIND_GPU"


def test_the_real_server_lacks_nothing_of_other_graphs_but_their_backends(
    running: Running, others: dict[str, Path]
) -> None:
    """It reads, completes and checks each configuration before it looks for the backend."""
    ports, packaged = free_ports(), running.tiny
    (repository,) = {folder.parent for folder in others.values()}
    # Those of a GPU are refused for the want of one.
    options = [f"--load-model={backend}0.graph" for backend in OTHER_BACKENDS]
    packaged = msgspec.structs.replace(
        packaged,
        repository=str(repository),
        server_options=(*packaged.server_options, "--model-control-mode=explicit", *options),
    )
    started = triton_process.start(running.server, packaged, running.deployment, ports)
    with pytest.raises(ServiceFailed) as failed:
        started.wait_ready(60)
    started.end()
    reasons = failed.value.message
    for backend in OTHER_BACKENDS:
        assert f"{backend}0.graph: " in reasons
        assert f"unable to find backend library for backend '{backend}'" in reasons
    assert reasons.count("unable to find") == len(OTHER_BACKENDS)


def test_metadata_is_that_of_our_service(running: Running, service: ServiceProcess) -> None:
    for model in ("tiny", "tiny.graph"):
        there = local_http.get(f"http://{HOST}:{running.ports.http}/v2/models/{model}").json()
        here = local_http.get(f"{service.url}/v2/models/{model}").json()
        for side in ("inputs", "outputs"):
            assert there[side] == here[side]
        assert there["versions"] == here["versions"]


def test_a_model_that_does_not_load_is_an_error_with_its_reason(
    running: Running, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    deployment = deployment_of(tiny_artifact, engine="null")
    packaged = write_repository(tmp_path / "repository", tiny_artifact, deployment)
    (tmp_path / "repository" / "tiny" / "1" / "seatrial.zip").unlink()
    ports = free_ports()
    started = triton_process.start(running.server, packaged, deployment, ports)
    with pytest.raises(ServiceFailed, match=r"tiny: ImportError: .*pip install --no-deps -r"):
        started.wait_ready(60)
    started.end()


def test_the_server_of_the_wheel_is_found_in_its_environment(running: Running) -> None:
    server: TritonServer = running.server
    assert server.backends == {"python"}
    assert server.words.startswith("the tritonserver of nvidia-pytriton in ")
    assert server.environment["PATH"].split(":")[0] == str(running.python.parent)


def processes_of(session: int) -> list[str]:
    """Names of the processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            name, _, rest = stat.read_text().rpartition(")")
            state, _, _, its_session = rest.split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(name.partition("(")[2])
    return found


@contextmanager
def served(
    artifact: Artifact, python: Path, home: Path, until: str = "(metrics)"
) -> Iterator[tuple[Any, str, int]]:
    """``seatrial serve --on triton``: the process, what it said, and the server's process."""
    home.mkdir()
    limits = Limits(deadline_s=60.0)  # of a request that waits for another one
    port = free_port(HOST)
    at = Server(HOST, port, free_port(HOST, (port,)))
    deployment = deployment_of(artifact, engine="null", limits=limits, server=at)
    (home / "deployment.toml").write_text(deployment.to_toml())
    words = [
        sys.executable, "-m", "seatrial.cli.main", "serve", "--on", "triton",
        "--triton-python", str(python), "--deployment", str(home / "deployment.toml"),
    ]  # fmt: skip
    with subprocess.Popen(
        words, env={**os.environ, "SEATRIAL_HOME": str(home)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = said_until(process, until)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (found := children.read_text().split()[-1:]):
                time.sleep(0.01)
            yield process, said, int(found[0])
        finally:
            process.kill()


def test_serve_says_what_it_starts_and_a_killed_one_takes_the_server_with_it(
    python: Path, tiny_artifact: Artifact, tmp_path: Path, until: Callable[..., Any]
) -> None:
    with served(tiny_artifact, python, tmp_path / "home") as (process, said, server):
        assert "Triton: the tritonserver of nvidia-pytriton in" in said
        assert "tiny on null: 1 lane x 1 thread\n" in said
        assert "tiny: python\ntiny.graph: python\n" in said
        url = said.split("ready: ")[1].split()[0]
        assert url.startswith(f"http://{HOST}:")
        assert local_http.get(f"{url}/v2/models/tiny/ready").status_code == 200
        assert len(processes_of(server)) == 3  # the server, and one for each model
        process.kill()
        until(lambda: processes_of(server) == [])


def test_ctrl_c_while_models_load_ends_all(
    python: Path, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with served(tiny_artifact, python, home, until="starting") as (process, _, server):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert processes_of(server) == []
        assert "Traceback" not in process.stderr.read()


def test_sigterm_lets_requests_end_and_leaves_nothing_behind(
    running: Running, tiny_artifact: Artifact, images: Path, tmp_path: Path,
    until: Callable[..., Any],
) -> None:  # fmt: skip
    home = tmp_path / "home"
    with served(tiny_artifact, running.python, home) as (process, said, server):
        http, grpc, metrics = (line.split()[1] for line in said.splitlines()[-3:])
        ports = Ports(HOST, *(int(one.rpartition(":")[2]) for one in (http, grpc)), 0)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(running.client, "overload", images, "tiny", "4", "2", ports=ports)
            waiting = 'nv_inference_pending_request_count{model="tiny",version="1"} 1'
            until(lambda: waiting in local_http.get(metrics).text)
            process.send_signal(signal.SIGTERM)
            assert asked.result()["answers"] == ["answered", "answered"]
        assert process.wait(60) == 0
        assert processes_of(server) == []


def test_the_commands_of_the_guide_run(
    python: Path, images: Path, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    """In the environment that is there: `triton_environment` has done what pip is asked for."""
    folder = tmp_path / "guide"
    folder.mkdir()
    onnx.save(tiny_model(), folder / "model.onnx")
    port = free_port(HOST)
    changes = {
        "python -m venv triton\n": f"ln -s {python.parent.parent} triton\n",
        f"triton/bin/pip install {SERVER}\n": "",
        "triton/bin/pip install --no-deps -r": "cat",
        "--deployment deployment.toml --": f"--port {port} --deployment deployment.toml --",
    }
    reader = Reader(
        folder, changes, {"seatrial serve --on triton": port}, {"SEATRIAL_HOME": str(folder)}
    )
    printed = reader.follow(GUIDE)
    assert reader.left == {}
    assert "tritonserver --model-repository=repository --disable-auto" in printed[0]
    assert printed[1] == "".join(f"{one}\n" for one in requirements(ENGINE))


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


def test_with_nohup_it_outlives_its_terminal() -> None:
    code = (
        "import signal; from seatrial.serve.runtimes.triton_process import Signals; Signals(); "
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    for words, ignored in (("", "False\n"), ("nohup ", "True\n")):
        command = f"{words}'{sys.executable}' -c '{code}'"
        done = subprocess.run(
            ["sh", "-c", command], check=True, capture_output=True, stdin=subprocess.DEVNULL,
            text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )  # fmt: skip
        assert done.stdout == ignored
