"""The servers that are compared: what each needs, how it is started, what it is sent."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import detecting
import httpx
import measure
import msgspec

from seatrial.artifact import Artifact
from seatrial.client.inference_wire import JSON_BYTES, ModelName
from seatrial.deployment import CoreLayout, Deployment, Limits, Server, Triton
from seatrial.load import v2_client
from seatrial.load.inference import ModelInput
from seatrial.load.target import Body, Target, bodies
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import environment, write_service
from seatrial.serve.triton.own_code import requirements
from seatrial.system.children import end

HERE = Path(__file__).parent
ENVIRONMENTS = measure.ROOT / "run" / "benchmarks" / "peers"
HOST = "127.0.0.1"
READY_WITHIN_S = 120.0


class Setting(NamedTuple):
    """What all servers have in common."""

    artifact: Artifact
    engine: str
    lanes: int
    deadline_s: float


class Up(NamedTuple):
    """A server that runs: where it is asked, and with what."""

    target: Target
    requests: list[Body]
    pid: int


@dataclass(frozen=True)
class Jpeg:
    """An image that is sent."""

    data: bytes
    content_type: str = "image/jpeg"


Start = Callable[[Setting, Path, Sequence[bytes]], contextlib.AbstractContextManager[Up]]


def python_of(name: str, packages: Sequence[str], engine: str) -> Path:
    """The Python of a server's own environment; it is made once."""
    folder = ENVIRONMENTS / name
    python, done = folder / "bin" / "python", folder / "made"
    needs = "\n".join([*packages, *requirements(engine)])
    if done.is_file() and done.read_text() == needs:
        return python
    print(f"making the environment of {name}", file=sys.stderr)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", folder], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, *packages], check=True)
    subprocess.run([*install, "--no-deps", *requirements(engine)], check=True)
    done.write_text(needs)
    return python


@contextlib.contextmanager
def ours(
    setting: Setting, scratch: Path, pictures: Sequence[bytes], *, runtime: str, python: str | None
) -> Iterator[Up]:
    """A deployment on one of our runtimes."""
    deployment = Deployment(
        "model",
        engine=setting.engine,
        # The other servers have no wide lane; that of ours stays, as it is when it is deployed.
        layout=CoreLayout(workers=1, instances=setting.lanes, threads=1),
        limits=Limits(deadline_s=setting.deadline_s),
        server=Server(HOST, free_port(HOST), runtime=runtime),  # type: ignore[arg-type]
        triton=Triton(python=python, backend="python"),
    )
    folder = write_service(scratch / "service", setting.artifact, deployment)
    log = scratch / "service.log"
    with ServiceProcess(folder, deployment, environment(os.environ), log) as service:
        to, requests = measure.jpeg_bodies(service.url, pictures)
        if runtime == "triton":
            name = ModelName(setting.artifact.manifest.name)
            to = msgspec.structs.replace(to, path=name.infer_path)
            image = ModelInput("image", "BYTES", (-1,))
            requests = v2_client.bodies(image, [Jpeg(one) for one in pictures])  # type: ignore[misc]
        yield Up(to, requests, service.process.pid)


def _base64(picture: bytes) -> Body:
    """A request of the Open Inference Protocol in JSON."""
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    data = [base64.b64encode(picture).decode()]
    asked = {"inputs": [{**tensor, "parameters": {"content_type": "base64"}, "data": data}]}
    return Body(json.dumps(asked).encode(), {"Content-Type": "application/json"})


@contextlib.contextmanager
def started(setting: Setting, command: list[str], folder: Path, up: Up) -> Iterator[Up]:
    """A server of another kind: its command, until a request is answered."""
    own = {
        **os.environ,
        "PYTHONPATH": f"{HERE}:{measure.ROOT / 'src'}",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
        detecting.MODEL: str(setting.artifact.path),
        detecting.ENGINE: setting.engine,
        detecting.LANES: str(setting.lanes),
        detecting.DEADLINE_S: str(setting.deadline_s),
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=own, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(process, up, log)
        yield up._replace(pid=process.pid)
    finally:
        end(process, grace_s=10, group=True)


def count_boxes(up: Up, request: Body) -> int:
    """Number of boxes in a server's answer: its own JSON, or that of the inference protocol."""
    answer = httpx.post(
        up.target.url + up.target.path, content=request.data, headers=request.headers, timeout=60
    )
    answer.raise_for_status()
    # Of binary tensors, the JSON before them tells the shapes.
    length = int(answer.headers.get(JSON_BYTES, len(answer.content)))
    told = json.loads(answer.content[:length])
    if "detections" in told:
        return len(told["detections"])
    (boxes,) = (one for one in told["outputs"] if one["name"] == "boxes")
    return int(boxes["shape"][0])


def _wait(process: subprocess.Popen[bytes], up: Up, log: Path) -> None:
    """Return once a request is answered."""
    give_up = time.monotonic() + READY_WITHIN_S
    first = up.requests[0]
    said = ""
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(
                up.target.url + up.target.path,
                content=first.data,
                headers=first.headers,
                timeout=30,
            )
            if answer.status_code == 200:
                return
            said = f"{answer.status_code} {answer.text[:500]}"
        time.sleep(0.2)
    sys.exit(f"{' '.join(map(str, process.args))}: {said}\n{log.read_text()[-3000:]}")  # type: ignore[arg-type]


def bento(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """BentoML with ``@bentoml.api``."""
    python, port = (
        python_of("bentoml", ["bentoml==1.4.39", "numpy"], setting.engine),
        free_port(HOST),
    )
    to = Target(f"http://{HOST}:{port}", field="image")
    command = [
        str(python), "-m", "bentoml", "serve", "bentoml_peer:Peer", "--working-dir", str(HERE),
        "--host", HOST, "--port", str(port),
    ]  # fmt: skip
    return started(setting, command, scratch, Up(to, bodies(to, [Jpeg(p) for p in pictures]), 0))  # type: ignore[misc]


def lit(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """LitServe."""
    python, port = (
        python_of("litserve", ["litserve==0.2.19", "numpy", "python-multipart"], setting.engine),
        free_port(HOST),
    )
    to = Target(f"http://{HOST}:{port}", path="/predict", field="image")
    command = [str(python), str(HERE / "litserve_peer.py"), str(port)]
    return started(setting, command, scratch, Up(to, bodies(to, [Jpeg(p) for p in pictures]), 0))  # type: ignore[misc]


def ml(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """MLServer."""
    python = python_of("mlserver", ["mlserver==1.7.1", "numpy", "uvloop<0.22"], setting.engine)
    port = free_port(HOST)
    settings = {
        "host": HOST, "http_port": port, "grpc_port": free_port(HOST),
        "metrics_port": free_port(HOST), "parallel_workers": setting.lanes,
    }  # fmt: skip
    (scratch / "settings.json").write_text(json.dumps(settings))
    model = {"name": "peer", "implementation": "mlserver_peer.Peer"}
    (scratch / "model-settings.json").write_text(json.dumps(model))
    to = Target(f"http://{HOST}:{port}", path="/v2/models/peer/infer")
    command = [str(python.with_name("mlserver")), "start", str(scratch)]
    return started(setting, command, scratch, Up(to, [_base64(one) for one in pictures], 0))


def kserve(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """KServe's model server."""
    python = python_of("kserve", ["kserve==0.21.0"], setting.engine)
    port, log = free_port(HOST), scratch / "log.json"
    # Its log has a line for each request, and another one for its time.
    log.write_text(json.dumps({"version": 1, "root": {"level": "ERROR"}}))
    command = [
        str(python), str(HERE / "kserve_peer.py"), "--http_port", str(port),
        "--workers", str(setting.lanes), "--enable_grpc", "false",
        "--enable_latency_logging", "false", "--log_config_file", str(log),
    ]  # fmt: skip
    to = Target(f"http://{HOST}:{port}", path="/v2/models/peer/infer")
    return started(setting, command, scratch, Up(to, [_base64(one) for one in pictures], 0))


def seatrial(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """Our own server, with BentoML's supervisor."""
    return ours(setting, scratch, pictures, runtime="bentoml", python=None)


def triton(setting: Setting, scratch: Path, pictures: Sequence[bytes]) -> Any:
    """Triton's Python backend."""
    python = python_of("triton", ["nvidia-pytriton==0.7.0", "numpy<2"], setting.engine)
    return ours(setting, scratch, pictures, runtime="triton", python=str(python))


SERVERS: dict[str, Start] = {
    "seatrial": seatrial,
    "bentoml": bento,
    "litserve": lit,
    "mlserver": ml,
    "kserve": kserve,
    "triton": triton,
}
