"""The page of metrics, of one process and of several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from seatrial.serve.metrics_page import METRICS

Running = Any

COUNT = """
import sys
from seatrial.serve.metrics import request_metrics
from seatrial.serve.metrics_page import page

request_metrics(0.3).count("/detect", 200, 0.1)
sys.stdout.buffer.write(page())
"""


def shown(**env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env={"PYTHONPATH": ":".join(sys.path), **env},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_one_process_shows_its_own_as_several_show_theirs(tmp_path: Path) -> None:
    alone = shown()
    assert 'seatrial_requests_total{code="200",route="/detect"} 1.0' in alone
    assert not [line for line in alone if "_created" in line or " python_" in line]
    several = shown(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert set(several) == set(alone)
    # A second process adds to what the first one counted.
    again = shown(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert 'seatrial_requests_total{code="200",route="/detect"} 2.0' in again


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
OLD_TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MESSAGES = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"


@pytest.fixture(scope="module")
def measured(run_app: Callable[..., Any]) -> Iterator[Running]:
    with run_app(probes=[METRICS]) as served:
        yield served


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", OLD_TEXT), ("*/*", OLD_TEXT), ("text/plain", OLD_TEXT), ("text/html", OLD_TEXT),
        (MESSAGES + ";encoding=delimited", OLD_TEXT), (MESSAGES + "," + PROMETHEUS_2, OPEN),
        (PROMETHEUS_2, OPEN), (PROMETHEUS_3, OPEN + "; escaping=allow-utf-8"),
        ("application/openmetrics-text", OPEN),
        ("text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0", OLD_TEXT),
        ("text/plain;version=1.0.0;escaping=dots",
         "text/plain; version=1.0.0; charset=utf-8; escaping=dots"),
        # Versions that are no number, or that nobody writes.
        ("application/openmetrics-text;version=x", OLD_TEXT),
        ("application/openmetrics-text;version=7.0.0", OLD_TEXT),
        ("application/openmetrics-text;version=0.0.1,application/openmetrics-text", OPEN),
    ],
)  # fmt: skip
def test_a_page_is_in_the_format_that_its_reader_names(
    measured: Running, accept: str, content_type: str
) -> None:
    response = measured.client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    found = response.headers["content-type"]
    assert found.removesuffix("; escaping=underscores") == content_type
    assert response.headers["vary"] == "Accept"
    read = open_families if found.startswith("application/openmetrics") else text_families
    names = {family.name.replace("__", "_") for family in read(response.text)}  # dots write two
    assert {"seatrial_deadline_seconds", "seatrial_request_seconds"} <= names
    assert response.text.endswith("# EOF\n") == found.startswith("application/openmetrics")
