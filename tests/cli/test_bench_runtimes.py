"""``seatrial bench`` of a deployment on several runtimes: real services, Triton's among them.

``seatrial judge`` and ``evaluate`` of the same Triton are here too: it takes long to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

import local_http
import seatrial
from seatrial.accuracy.inference_service import running_subject
from seatrial.accuracy.predict import EVALUATION
from seatrial.artifact import Artifact
from seatrial.bench.options import BenchOptions, MeasureOptions
from seatrial.bench.run import run_benchmark
from seatrial.bench.side_by_side import read_side_by_side
from seatrial.cli.bench import bench
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.cli.judge import judge
from seatrial.client.inference_wire import ModelName
from seatrial.deployment import CoreLayout, Deployment, Limits, Server, Triton
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed
from seatrial.load.target import Target
from seatrial.serve.address import with_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import write_service
from seatrial.trial.report import read_verdict

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
ENGINE = "onnxruntime"
QUICK = (
    "scaling", "--sessions", "1", "2", "--point-s", "0.3", "--warmup-s", "0",
)  # fmt: skip
LARGE_HW, MOST_PIXELS = (3000, 3000), 9_000_000


def run(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seatrial.cli.main", *map(str, arguments)]
    environment = os.environ | {"SEATRIAL_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def triton(
    triton_python: Path, tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """Triton with one lane, and a queue of one request."""
    folder = tmp_path_factory.mktemp("triton-service")
    deployment = Deployment(
        "tiny", engine=ENGINE, layout=CoreLayout(1, 1, 1),
        limits=Limits(queue=1, deadline_s=60.0, image_pixels=MOST_PIXELS),
        server=Server(HOST, 0, 0, runtime="triton"), triton=Triton(python=str(triton_python)),
    )  # fmt: skip
    deployment = with_port(deployment)
    service = write_service(folder / "service", tiny_artifact, deployment)
    with ServiceProcess(service, deployment, os.environ, folder / "log") as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path, photo: bytes) -> Path:
    """A folder with an image in which the tiny detector finds one object."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(photo)
    return folder


def test_a_triton_is_measured_by_http_and_grpc_and_recognised(
    triton: ServiceProcess, photos: Path
) -> None:
    options = BenchOptions(
        images=str(photos), scenarios=("scaling",), sessions=(1,), point_s=1.5, warmup_s=0.1
    )
    for url, protocol, path in (
        (triton.url, "v2", "/v2/models/tiny/infer"), (triton.grpc_url, "grpc", "/tiny")
    ):  # fmt: skip
        report = run_benchmark(Target(url), options)
        assert (report.target.protocol, report.target.path) == (protocol, path)
        model = report.model or {}
        assert model["name"] == "tiny"
        assert model["server"].startswith("triton 2.")
        (point,) = report.runs[0].points
        assert point.good > 0
        assert (point.failed, point.errors, point.detections_mean) == (0, {}, 1.0)
        # Those of the server and of its models' processes.
        assert point.usage.server is not None
        assert point.usage.server.processes >= 3
    with pytest.raises(ServiceFailed, match="POST /detect is refused with 4") as refused:
        run_benchmark(Target(triton.url, protocol="http"), options)
    assert "--protocol v2" in refused.value.hint
    with pytest.raises(ServiceFailed, match=r"the model 'none': .*none.* is not found"):
        run_benchmark(Target(triton.url, path="none", protocol="v2"), options)


def test_what_triton_refuses_is_counted_by_its_kind(
    triton: ServiceProcess, tmp_path: Path, photos: Path
) -> None:
    """A request of these takes the lane long enough for the others to find the queue full."""
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("L", LARGE_HW).save(folder / "large.png")
    options = BenchOptions(
        images=str(folder), scenarios=("scaling",), sessions=(8,), point_s=1.5, warmup_s=0.0
    )
    for url, kind in ((triton.url, "http-503"), (triton.grpc_url, "grpc-unavailable")):
        (point,) = run_benchmark(Target(url), options).runs[0].points
        assert point.errors.get(kind, 0) > 0, point
        assert set(point.errors) == {kind}
    assert local_http.get(f"{triton.url}/v2/health/ready").status_code == 200


CONTRACT = """name = "gate"
[accuracy]
ap50 = 0.01
[latency]
percentile = "p50"
at_most_ms = 60000.0
[load]
memory_mib = 64000.0
"""


def test_a_running_triton_is_judged_by_its_whole_contract(
    triton: ServiceProcess, tiny_artifact: Artifact, scenes: Path, tmp_path: Path
) -> None:
    """Its boxes give the same figures as the detector in this process."""
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT)
    quick = MeasureOptions(
        point_s=0.3, sessions=(1,), warmup_s=0.0, single_stream_s=20.0, single_stream_requests=12
    )
    with contextlib.suppress(SystemExit):  # four images may be too few to decide
        judge(
            contract, url=triton.url, path="/v2/models/tiny/infer", dataset=f"coco:{scenes}",
            split="val", measure=quick, output=tmp_path / "run",
        )  # fmt: skip
    report = read_verdict(tmp_path / "run" / "verdict.json")
    outcomes = {row.clause.metric: row.outcome for row in report.verdict.rows}
    assert outcomes.pop("accuracy.ap50") in ("holds", "undecided")
    assert set(outcomes) == {"latency.at_most_ms", "load.memory_mib", "load.error_rate"}
    assert set(outcomes.values()) == {"holds"}
    assert report.service["digest"] == tiny_artifact.digest
    assert (report.service["engine"], report.service["precision"]) == (ENGINE, "f32")
    measured = json.loads((tmp_path / "run" / "accuracy.json").read_bytes())
    with seatrial.load(tiny_artifact.path, engine=ENGINE, wide=False) as here:
        wanted = seatrial.evaluate(here, f"coco:{scenes}", split="val")
    assert measured["scores"] == json.loads(msgspec.json.encode(wanted.scores))
    assert measured["detections"] == wanted.detections > 0


def test_an_image_that_triton_refuses_is_an_error_and_so_is_a_model_without_classes(
    triton: ServiceProcess, encode: Callable[..., bytes]
) -> None:
    with contextlib.closing(running_subject(triton.url)) as subject:
        assert subject.labels == ("red", "green", "blue")
        too_large = encode(Image.new("L", (3000, 3001)), "PNG")
        with pytest.raises(InvalidInput, match=r"3000.*3001"):
            subject.detect(too_large, EVALUATION)
    with pytest.raises(ServiceFailed, match=r"says its classes \(asked: tiny.graph\)"):
        running_subject(triton.url, ModelName("tiny.graph"))


def test_a_deployment_is_judged_on_triton(
    tiny_artifact: Artifact, triton_python: Path, scenes: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "gate"\n[accuracy]\nap50 = 0.01\n')
    file = tmp_path / "deployment.toml"
    file.write_text(
        f'model = "{tiny_artifact.path}"\nengine = "{ENGINE}"\n'
        f'[layout]\nworkers = 1\ninstances = 1\n[triton]\npython = "{triton_python}"\n'
    )
    done = run(
        "judge", contract, "--deployment", file, "--on", "triton", "--dataset", f"coco:{scenes}",
        "--split", "val", "-o", tmp_path / "out", home=tmp_path / "home",
    )  # fmt: skip
    assert done.returncode in (0, 9), done.stderr
    report = read_verdict(tmp_path / "out" / "verdict.json")
    assert report.service["digest"] == tiny_artifact.digest
    assert list((tmp_path / "home" / "services").iterdir()) == []


def test_one_deployment_on_all_runtimes_side_by_side(
    tiny_artifact: Artifact, triton_python: Path, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text(
        f'model = "{tiny_artifact.path}"\nengine = "{ENGINE}"\n'
        f"[layout]\nworkers = 1\ninstances = 1\nthreads = 1\nwide = false\n"
        f'[triton]\npython = "{triton_python}"\n'
    )
    done = run(
        "bench", "--deployment", file, "--on", "bentoml", "uvicorn", "triton",
        "--protocol", "http", "v2", "grpc", "--rounds", "1", "--images", photos,
        "-o", tmp_path / "out", *QUICK, "--json",
        home=tmp_path / "home",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = read_side_by_side(tmp_path / "out" / "report.json")
    assert json.loads(done.stdout)["findings"][0]["text"] == report.findings[0].text
    measured = {(row.runtime, row.protocol, row.sessions) for row in report.rows}
    ours = {
        (r, p, n) for r in ("bentoml", "uvicorn") for p in ("http", "v2", "grpc") for n in (1, 2)
    }
    assert measured == ours | {("triton", p, n) for p in ("v2", "grpc") for n in (1, 2)}
    found = set()
    for setup in report.setups:
        if (setup.runtime, setup.protocol) == ("triton", "http"):
            assert setup.missing.startswith("POST /detect is refused with 4")
            continue
        assert setup.missing == ""
        (one,) = setup.reports
        assert one.target.protocol == setup.protocol
        found |= {point.detections_mean for point in one.runs[0].points if point.good}
        assert {point.failed for point in one.runs[0].points} == {0}
    # The same image gives the same boxes everywhere; a short point of a slow machine has none.
    assert found == {1.0}
    servers = {(p.reports[0].model or {}).get("server", "") for p in report.setups if p.reports}
    assert any(name.startswith("triton 2.") for name in servers)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>triton, grpc</td>" in page
    assert "triton, http: not measured: POST /detect" in done.stderr
    assert list((tmp_path / "home" / "services").iterdir()) == []


def test_a_runtime_that_is_not_here_is_named_and_the_others_are_measured(
    tiny_artifact: Artifact, photos: Path, tmp_path: Path
) -> None:
    """This Python has no Triton: by its wheel, so that no server of the machine is found."""
    done = run(
        "bench", "--model", tiny_artifact.path, "--engine", "null", "--on", "triton", "uvicorn",
        "--triton-python", sys.executable, "--protocol", "v2", "--rounds", "1",
        "--images", photos, "-o", tmp_path / "out", *QUICK,
        home=tmp_path / "home",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    triton, uvicorn = read_side_by_side(tmp_path / "out" / "report.json").setups
    assert triton.missing.startswith(("no Triton server", "the models do not run"))
    assert len(uvicorn.reports) == 1
    assert "scaling, 2 sessions" in done.stdout
    assert "triton by v2 was not measured: " in " ".join(done.stdout.split())
    assert "nvidia-pytriton" in done.stdout


def refused(match: str, quick: Callable[..., BenchOptions], output: Path, **options: Any) -> None:
    with pytest.raises(InvalidConfig, match=match):
        bench(options=quick(), output=output, **options)


def test_words_that_do_not_go_together_are_errors_before_anything_starts(
    quick: Callable[..., BenchOptions], tmp_path: Path
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text("[latency]\nat_most_ms = 60.0\n")
    model: dict[str, Any] = {"service": DeploymentOptions(model="tiny")}
    url: dict[str, Any] = {"url": "http://127.0.0.1:9"}
    one = "--url measures one running service"
    refused(one, quick, tmp_path, **url, on=("uvicorn",))
    refused(one, quick, tmp_path, **url, protocol=("http", "v2"))
    refused(one, quick, tmp_path, **url, rounds=2)
    refused(one, quick, tmp_path, **url, triton=TritonOptions(triton_image="x"))
    for extra in ({"contract": contract}, {"path": "/x"}, {"field": "file"}):
        refused(
            "are for one runtime and one protocol", quick, tmp_path, **model,
            on=("uvicorn", "bentoml"), **extra,
        )  # fmt: skip
