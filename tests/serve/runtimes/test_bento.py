"""The real service: ``bentoml serve`` in processes of its own."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

import local_http
from seatrial.deployment import CoreLayout
from seatrial.serve.process import ServiceProcess
from seatrial.system.hardware import usable_cores

Start = Callable[..., ServiceProcess]

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


@pytest.fixture
def client(service: ServiceProcess) -> Any:
    with local_http.client(base_url=service.url, timeout=20) as opened:
        yield opened


def test_both_ways_in(
    client: httpx.Client, photo: bytes, box_of: Callable[..., list[float]]
) -> None:
    for given in (
        {"content": photo, "headers": {"Content-Type": "image/jpeg"}},
        {"files": {"image": photo}},
    ):
        answer = client.post("/detect", **given).json()  # type: ignore[arg-type]
        assert [row["box"] for row in answer["detections"]] == [box_of(2, 3)]
        times = answer["timing_ms"]
        total = times.pop("total")
        assert sum(times.values()) == pytest.approx(total, abs=0.001 * len(times))


def test_the_annotated_picture(client: httpx.Client, photo: bytes) -> None:
    response = client.post("/detect.jpg", content=photo)
    assert response.headers["content-type"] == "image/jpeg"
    assert "total;dur=" in response.headers["server-timing"]
    with Image.open(io.BytesIO(response.content)) as drawn:
        assert drawn.size == (128, 128)
    assert response.content != photo


def test_the_histograms_are_in_seconds(client: httpx.Client, photo: bytes) -> None:
    before = sample(client, "seatrial_stage_seconds_sum", stage="total")
    header = client.post("/detect", content=photo).headers["server-timing"]
    total_ms = float(header.rpartition("total;dur=")[2])
    after = sample(client, "seatrial_stage_seconds_sum", stage="total")
    assert 1e3 * (after - before) == pytest.approx(total_ms, abs=0.002)


def test_alive_ready_and_what_is_served(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200
    model = client.get("/model").json()
    assert (model["engine"], model["device"], model["precision"]) == ("openvino", "cpu", "f32")
    assert model["layout"]["cores"] == usable_cores()
    assert model["layout"]["workers"] == 1
    assert model["limits"]["body_bytes"] == 2**20


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    """Sum of a metric's samples that carry the labels."""
    total = 0.0
    for line in client.get("/metrics").text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(?P<labels>.*)\}})? (?P<value>\S+)", line)
        if match and all(f'{k}="{v}"' in (match["labels"] or "") for k, v in labels.items()):
            total += float(match["value"])
    return total


def test_the_front_page_is_ours_and_asks_nobody_outside(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    listed = [line for line in page.text.splitlines() if " /v2" not in line]
    assert listed == [
        "POST /detect", "POST /detect.jpg", "GET  /model", "GET  /openapi.json",
        "GET  /livez", "GET  /readyz", "GET  /healthz", "GET  /metrics",
    ]  # fmt: skip
    # BentoML's description of its own interface, which knows none of our routes.
    assert client.get("/docs.json").status_code == 404
    assert client.get("/schema.json").status_code == 404


def test_metrics_rise(client: httpx.Client, photo: bytes) -> None:
    names: list[tuple[str, dict[str, str], int]] = [
        ("seatrial_requests_total", {"route": "/detect", "code": "200"}, 5),
        ("seatrial_requests_total", {"route": "/detect", "code": "415"}, 2),
        ("seatrial_stage_seconds_count", {"stage": "decode"}, 5),
        ("seatrial_stage_seconds_count", {"stage": "encode"}, 5),
        ("seatrial_stage_seconds_count", {"stage": "total"}, 5),
        ("seatrial_detections_total", {}, 5),
        ("seatrial_lane_requests_total", {}, 5),
    ]
    before = [sample(client, name, **labels) for name, labels, _ in names]
    for _ in range(5):
        client.post("/detect", content=photo)
    for _ in range(2):
        client.post("/detect", content=b"hello")
    after = [sample(client, name, **labels) for name, labels, _ in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [rise for *_, rise in names]
    assert sample(client, "seatrial_requests_present") == 0


def test_another_service_leaves_the_metrics_alone(
    client: httpx.Client, photo: bytes, start_service: Start
) -> None:
    name, labels = "seatrial_requests_total", {"route": "/detect", "code": "200"}
    client.post("/detect", content=photo)
    before = sample(client, name, **labels)
    with start_service() as other, local_http.client(base_url=other.url, timeout=20) as second:
        assert sample(second, name, **labels) == 0
        second.post("/detect", content=photo)
        client.post("/detect", content=photo)
        assert sample(second, name, **labels) == 1
    assert sample(client, name, **labels) == before + 1


def test_paths_that_are_tried_leave_no_series_behind(client: httpx.Client) -> None:
    for number in range(20):
        response = client.get(f"/wp-admin/{number}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "Http404"
    page = client.get("/metrics").text
    assert "seatrial_requests_total" in page
    assert "wp-admin" not in page
    assert sample(client, "seatrial_requests_total", route="other", code="404") >= 20


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("GET", "/detect", {}), 405),
        (("POST", "/model", {}), 405),
        (("POST", "/nothing", {}), 404),
        (("POST", "/detect", {"content": b""}), 400),
        (("POST", "/detect", {"content": b"hello"}), 415),
        (("POST", "/detect", {"content": b"\xff\xd8\xff\xe0"}), 422),
        (("POST", "/detect", {"content": bytes(2**20 + 1)}), 413),
        (("POST", "/detect", {"files": {"file": b"x"}}), 400),
        (("POST", "/detect?confidance=1", {"content": b"x"}), 400),
    ],
)
def test_bad_requests_get_json_and_the_service_lives_on(
    client: httpx.Client, photo: bytes, request_: tuple[str, str, dict[str, Any]], status: int
) -> None:
    method, path, given = request_
    response = client.request(method, path, **given)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message", "hint", "request_id"}
    assert client.post("/detect", content=photo).status_code == 200


def test_many_at_once(client: httpx.Client, photo: bytes) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/detect", content=photo), range(80)))
    assert {a.status_code for a in answers} == {200}
    assert len({json.dumps(a.json()["detections"]) for a in answers}) == 1


def test_two_workers_each_on_cores_of_its_own_both_serve(
    start_service: Start, photo: bytes, until: Callable[..., Any]
) -> None:
    with start_service(layout=CoreLayout(workers=2)) as running:
        workers = psutil.Process(running.process.pid).children()
        assert len(workers) == 2
        allowed = os.sched_getaffinity(0)
        # The service is ready when the first of them is.
        until(lambda: all(set(w.cpu_affinity()) < allowed for w in workers) or len(allowed) == 1)
        cores = [set(worker.cpu_affinity()) for worker in workers]
        if len(allowed) >= 2:
            assert not cores[0] & cores[1]
        assert cores[0] | cores[1] <= allowed
        for other in workers:
            other.suspend()
            try:  # whatever is answered now, the one that is left answers
                answer = local_http.post(f"{running.url}/detect", content=photo, timeout=20)
                assert [row["label"] for row in answer.json()["detections"]] == ["red"]
                model = local_http.get(f"{running.url}/model", timeout=20).json()
                assert model["layout"]["workers"] == 2
            finally:
                other.resume()
        metrics = local_http.get(f"{running.url}/metrics").text
        # One view over both processes.
        assert 'seatrial_requests_total{code="200",route="/detect"} 2.0' in metrics


def test_a_worker_that_is_killed_takes_its_requests_out_of_the_gauge(
    start_service: Start, until: Callable[..., Any]
) -> None:
    with start_service(engine="null", layout=CoreLayout(workers=1)) as running:
        (worker,) = psutil.Process(running.process.pid).children()
        port = int(running.url.rpartition(":")[2])
        with (
            local_http.client(base_url=running.url, timeout=20) as client,
            socket.create_connection(("127.0.0.1", port), timeout=20) as slow,
        ):
            slow.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123")
            until(lambda: sample(client, "seatrial_requests_present") == 1)
            worker.kill()

        def present() -> float | None:
            try:
                with local_http.client(base_url=running.url, timeout=20) as fresh:
                    return sample(fresh, "seatrial_requests_present")
            except httpx.TransportError:  # the next worker is not there yet
                return None

        until(lambda: present() is not None)
        assert present() == 0


def test_a_deployment_with_a_typo_is_refused_by_the_service_too(tmp_path: Path) -> None:
    (tmp_path / "deployment.toml").write_text('model = "m"\n[limits]\nqueues = 3\n')
    code = (
        "import sys\nfrom pathlib import Path\nfrom seatrial.serve.runtimes.bento import service\n"
        "service(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path / "deployment.toml"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "unknown key 'limits.queues'\nhint: did you mean 'queue'?" in done.stdout
