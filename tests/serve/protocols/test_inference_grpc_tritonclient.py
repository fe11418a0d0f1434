"""NVIDIA's own gRPC client, unmodified and in an environment of its own; two processes; the drain.

One service for all: its last test ends it.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

import local_http
from fresh_environments import ENVIRONMENT, install
from grpc_calls import NOT_SERVING, SERVING, calls, images_request
from open_inference import columns, elements
from perf_analyzer import perf_analyzer
from seatrial.client.inference_messages import COMPILED, SERVICE
from seatrial.deployment import CoreLayout, Limits
from seatrial.serve.process import ServiceProcess

Told = dict[str, Any]

pytestmark = pytest.mark.slow

# Runs in the client's environment: the words are the service's address and a folder with images.
CLIENT = """
import json, sys, threading
from pathlib import Path
import numpy as np
import tritonclient.grpc as grpc
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

client = grpc.InferenceServerClient(sys.argv[1])
files = [file.read_bytes() for file in sorted(Path(sys.argv[2]).glob("*.jpg"))]
NAMES = ("boxes", "scores", "class_ids", "labels", "counts")


def image(*given, shape=None):
    tensor = grpc.InferInput("image", shape or [len(given)], "BYTES")
    return [tensor.set_data_from_numpy(np.array(given, dtype=object).reshape(tensor.shape()))]


def boxes(result):
    arrays = {name: result.as_numpy(name) for name in NAMES}
    return {name: [x.decode() if isinstance(x, bytes) else x for x in array.tolist()]
            for name, array in arrays.items()}


def error(call, *words, **options):
    try:
        call(*words, **options)
    except InferenceServerException as raised:
        return [raised.status(), raised.message()]
    return None


def asynchronous():
    done, found = threading.Event(), []
    def callback(result, error):
        found.append((result, error))
        done.set()
    client.async_infer("tiny", image(files[0]), callback)
    assert done.wait(60)
    assert found[0][1] is None, found
    return found[0][0]


def streamed(requests, **options):
    # In the order in which they come: boxes, or the text of an error.
    found, there = [], threading.Semaphore(0)
    def callback(result, error):
        found.append(boxes(result) if error is None else error.message())
        there.release()
    client.start_stream(callback, **options)
    for given in requests:
        client.async_stream_infer("tiny", image(*given), enable_empty_final_response=True)
    for _ in requests:
        assert there.acquire(timeout=60)
    client.stop_stream()
    return found


def descriptors():
    files = descriptor_pb2.FileDescriptorSet()
    for module in (service_pb2, model_config_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    return files.SerializeToString().hex()


canvas = np.full((1, 64, 64, 3), 114, np.uint8)
canvas[0, 16:24, 24:32] = (255, 0, 0)
graph = grpc.InferInput("image", canvas.shape, "UINT8").set_data_from_numpy(canvas)
infer = client.infer
before = client.get_inference_statistics("tiny", as_json=True)
told = {
    "descriptors": descriptors(),
    "live": client.is_server_live(),
    "ready": [client.is_server_ready(), client.is_model_ready("tiny"),
              client.is_model_ready("tiny.graph", "1"), client.is_model_ready("none")],
    "server": client.get_server_metadata(as_json=True),
    "model": client.get_model_metadata("tiny", as_json=True),
    "config": client.get_model_config("tiny", "1", as_json=True)["config"],
    "index": client.get_model_repository_index(as_json=True)["models"],
    "plain": boxes(infer("tiny", image(files[0]))),
    "named": boxes(infer("tiny", image(files[0]),
                         outputs=[grpc.InferRequestedOutput(name) for name in NAMES])),
    "versioned": boxes(infer("tiny", image(files[0]), model_version="1")),
    "column": boxes(infer("tiny", image(files[0], shape=[1, 1]))),
    "urgent": boxes(infer("tiny", image(files[0]), priority=2, timeout=5_000_000)),
    "deadline": boxes(infer("tiny", image(files[0]), client_timeout=30)),
    "headers": boxes(infer("tiny", image(files[0]), headers={"x-request-priority": "batch"})),
    "asynchronous": boxes(asynchronous()),
    "id": infer("tiny", image(files[0]), request_id="seven").get_response().id,
    "several": boxes(infer("tiny", image(*files))),
    "confident": boxes(infer("tiny", image(files[0]), parameters={"confidence": 1.0})),
    "nothing": infer("tiny", image(files[1])).as_numpy("boxes").shape,
    "raw": infer("tiny.graph", [graph]).as_numpy("output0").tolist(),
    "no model": error(infer, "none", image(files[0])),
    "no image": error(infer, "tiny", image(b"hello")),
    "no input": error(infer, "tiny", [graph]),
    "late": error(infer, "tiny", image(files[0]), timeout=1),
    "no load": error(client.load_model, "tiny"),
    "streamed": streamed([[files[0]], [files[1]], [b"hello"], files, [files[0]]]),
    "strict": streamed([[b"hello"]], headers={"triton_grpc_error": "true"}),
    "statistics": [before, client.get_inference_statistics("tiny", as_json=True)],
}
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def served(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """A service of two processes, which share the port of gRPC."""
    layout = CoreLayout(workers=2, instances=1, threads=1, wide=False)
    limits = Limits(drain_s=20, deadline_s=10.0)
    with start_service(layout=layout, limits=limits, drain_notice_s=1.0, grpc=True) as running:
        yield running


@pytest.fixture(scope="module")
def port(served: ServiceProcess) -> int:
    return int(served.grpc_url.rpartition(":")[2])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the client's environment."""
    return install(tmp_path_factory.mktemp("tritonclient") / "venv", "tritonclient[grpc]>=2.60")


@pytest.fixture(scope="module")
def told(served: ServiceProcess, images: Path, python: Path) -> Told:
    """What the client was told, in one run of it."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", CLIENT, served.grpc_url.removeprefix("grpc://"), images],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: Told = json.loads(done.stdout)
    answers["detect"] = [
        local_http.post(f"{served.url}/detect", content=file.read_bytes()).json()
        for file in sorted(images.iterdir())
    ]
    return answers


def test_health_metadata_and_configuration(told: Told) -> None:
    assert told["live"] is True
    assert told["ready"] == [True, True, True, False]
    assert told["server"]["name"] == "seatrial"
    assert told["model"]["versions"] == ["1"]
    assert told["config"]["input"][0]["data_type"] == "TYPE_STRING"
    assert told["config"]["instance_group"][0]["kind"] == "KIND_CPU"
    assert [one["name"] for one in told["index"]] == ["tiny", "tiny.graph"]


@pytest.mark.parametrize(
    "way",
    ["plain", "named", "versioned", "column", "urgent", "deadline", "headers", "asynchronous"],
)
def test_boxes_are_those_of_detect(told: Told, way: str) -> None:
    wanted = columns(told["detect"][0])
    assert len(wanted["boxes"]) == 2
    assert told[way] == wanted


def test_several_images_ids_and_parameters(told: Told) -> None:
    assert told["several"] == columns(*told["detect"])
    assert told["several"]["counts"] == [2, 0, 1, 1]
    assert told["id"] == "seven"
    assert told["confident"]["counts"][0] < 2
    assert told["nothing"] == [0, 4]


def test_a_stream_is_answered_in_order_errors_too(told: Told) -> None:
    first, second, error, several, last = told["streamed"]
    assert first == last == columns(told["detect"][0])
    assert second == columns(told["detect"][1])
    assert several == columns(*told["detect"])
    assert "known formats: JPEG" in error
    (strict,) = told["strict"]
    assert "known formats: JPEG" in strict


def test_the_example_of_streams_runs(
    told: Told, python: Path, port: int, images: Path, tmp_path: Path
) -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "open-inference.md"
    section = page.read_text().partition("### Streams")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    shutil.copy(images / "0.jpg", tmp_path / "photo.jpg")
    done = subprocess.run(
        [python, "-W", "ignore", "-c",
         example.replace("yolo11n", "tiny").replace(":3001", f":{port}")],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels = [label.encode() for label in columns(told["detect"][0])["labels"]]
    assert done.stdout.splitlines() == [
        f"('{number}', {np.array(labels, dtype=object)!r})" for number in range(2)
    ]


def test_the_graph_gives_what_the_engine_gives(told: Told) -> None:
    output = np.array(told["raw"], np.float32)
    assert output.shape == (1, 7, 64)
    at = 2 * 8 + 3  # the red cell
    assert output[0, :4, at].tolist() == [28, 20, 16, 16]
    assert output[0, 4, at] > 0.5 > output[0, 5:, at].max()


def test_errors_reach_the_caller(told: Told) -> None:
    status, message = told["no model"]
    assert (status, "there is no model 'none'" in message) == ("StatusCode.NOT_FOUND", True)
    assert told["no image"][0] == told["no input"][0] == "StatusCode.INVALID_ARGUMENT"
    assert told["late"][0] == "StatusCode.DEADLINE_EXCEEDED"
    assert told["no load"][0] == "StatusCode.UNIMPLEMENTED"


def test_statistics_count_over_both_processes(told: Told) -> None:
    before, after = (one["model_stats"][0] for one in told["statistics"])
    count = {
        key: int(after.get(key, 0)) - int(before.get(key, 0)) for key in after if "count" in key
    }
    several = len(told["detect"])
    streamed = 1 + 1 + several + 1
    assert count["inference_count"] == 8 + 1 + several + 2 + streamed
    success = [int(one["inference_stats"]["success"].get("count", 0)) for one in (before, after)]
    assert success[1] - success[0] == 12 + 4


def test_every_field_has_the_number_and_type_of_tritons(told: Told) -> None:
    """Of tritonclient's own descriptors: what both have is the same, and ours has nothing else."""
    theirs = fields(bytes.fromhex(told["descriptors"]))
    ours = fields(COMPILED.read_bytes())
    assert len(ours) > 150
    assert {key: value for key, value in ours.items() if theirs.get(key) != value} == {}


def fields(data: bytes) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}

    def add(message: Any, above: str) -> None:
        name = f"{above}.{message.name}"
        for one in message.field:
            found[name, one.name] = (one.number, one.type, one.label, one.type_name)
        for inner in message.nested_type:
            add(inner, name)
        for kind in message.enum_type:
            found.update({(f"{name}.{kind.name}", one.name): one.number for one in kind.value})

    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        for message in file.message_type:
            add(message, file.package)
        for kind in file.enum_type:
            found.update({(kind.name, one.name): one.number for one in kind.value})
        for service in file.service:
            for one in service.method:
                streams = (one.client_streaming, one.server_streaming)
                found[service.name, one.name] = (one.input_type, one.output_type, streams)
    return found


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that start perf_analyzer."""
    return perf_analyzer(tmp_path_factory.mktemp("perf_analyzer"))


@pytest.mark.parametrize(
    ("protocol", "more"), [("http", []), ("grpc", []), ("grpc", ["--streaming", "--async"])]
)
def test_perf_analyzer_measures_the_service(
    analyzer: list[str],
    served: ServiceProcess,
    images: Path,
    tmp_path: Path,
    protocol: str,
    more: list[str],
) -> None:
    """Unmodified, with encoded images."""
    data = base64.b64encode(elements((images / "0.jpg").read_bytes())).decode()
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"image": {"b64": data}}]}))
    address = served.url if protocol == "http" else served.grpc_url
    done = subprocess.run(
        [
            *analyzer, "-m", "tiny", "-u", address.partition("://")[2], "-i", protocol,
            "--shape", "image:1", "--input-data", tmp_path / "data.json",
            "--concurrency-range", "2", "--request-count", "20", *more,
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Request count: 20" in done.stdout
    # As the service's own statistics have it, over a window that begins and ends between requests.
    counted = re.search(r"Successful request count: (\d+)", done.stdout)
    assert counted is not None, done.stdout
    assert int(counted[1]) > 0


def test_two_processes_share_the_port(
    served: ServiceProcess, port: int, images: Path, until: Callable[..., Any]
) -> None:
    """The kernel deals out connections: after some of them, both processes have answered."""
    request = images_request((images / "0.jpg").read_bytes())

    def lanes() -> dict[str, float]:
        text = local_http.get(f"{served.url}/metrics").text
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("seatrial_requests_total") and "ModelInfer" in line
        }

    seen: set[int] = set()

    def both() -> bool:
        with calls(port) as service:
            service.ModelInfer(request)
            seen.update(processes_connected_to(port))
        return len(seen) == 2

    until(both)
    assert any('code="200"' in line for line in lanes())


def processes_connected_to(port: int) -> set[int]:
    """Processes that have an established connection on a port of theirs."""
    import psutil

    return {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.laddr
        and one.laddr.port == port
        and one.status == psutil.CONN_ESTABLISHED
        and one.pid is not None
    }


def test_the_drain_tells_watchers_answers_what_runs_and_takes_no_more(
    served: ServiceProcess, port: int, images: Path
) -> None:
    request = images_request((images / "0.jpg").read_bytes())
    statuses: list[int] = []
    begun = threading.Event()

    def watch(channel: Any) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            for one in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                statuses.append(one.status)
                begun.set()
        except grpc.RpcError:  # at the end of the process
            pass

    with calls(port) as service:
        watcher = threading.Thread(target=watch, args=(service.channel,))
        watcher.start()
        assert begun.wait(30)
        served.process.terminate()
        answered, refused = 0, None
        while refused is None:
            try:
                service.ModelInfer(request)
                answered += 1
            except grpc.RpcError as error:
                refused = error.code()
        watcher.join(30)
    # gRPC cancels a call that comes at the very moment when it stops.
    assert refused in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert statuses[:2] == [SERVING, NOT_SERVING]
    assert answered > 0  # for as long as balancers are given to notice
    ended = time.monotonic()
    assert served.process.wait(60) == 0
    assert time.monotonic() - ended < 15  # watchers do not hold it up: `drain_s` is 20
