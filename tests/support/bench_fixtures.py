"""Real services on the loopback address, folders of images, and points made by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from bench_reports import STAGES, build_point, build_report, usage_of
from forked_program import ForkedProcess, ForkedProgram
from seatrial.bench.measurement import Measurement
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import BenchReport
from seatrial.config import encode_json
from seatrial.load.images import ImagesSummary, load_images
from seatrial.load.usage import Usage

# What `service_stand_in.py` imports, and uvicorn when it starts.
IMPORTED = (
    "uvicorn", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.websockets.auto",
    "uvicorn.protocols.http.httptools_impl", "starlette.applications", "starlette.formparsers",
)  # fmt: skip


class LocalService(msgspec.Struct):
    """A running `service_stand_in.py`."""

    process: ForkedProcess
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def seen(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/seen", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the process that all stand-ins fork from: it has their imports, half a second."""
    program = tmp_path_factory.mktemp("stand-ins") / "program"
    with ForkedProgram(program, IMPORTED, os.environ) as forking:
        yield forking.address


@pytest.fixture
def detector(stand_ins: str) -> Iterator[Callable[..., LocalService]]:
    """Starts `service_stand_in.py`: ``detector(behaviour="busy", hold_ms=5)``."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> LocalService:
            words = ["-m", "service_stand_in", json.dumps(options)]
            reading, writing = os.pipe()
            with os.fdopen(reading) as printed:
                process = ForkedProcess(stand_ins, words, [0, writing, 2])
                os.close(writing)
                stack.callback(process.wait)
                stack.callback(process.terminate)
                return LocalService(process, int(printed.readline()))

        yield start


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Twenty different small JPEG files."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(20):
        Image.new("RGB", (40 + n, 30), (10 * n, 90, 200)).save(folder / f"{n:02}.jpg")
    return folder


@pytest.fixture
def quick(image_folder: Path) -> Callable[..., BenchOptions]:
    """Options of a benchmark that takes a moment."""

    def build(**changes: Any) -> BenchOptions:
        plain = BenchOptions(
            images=str(image_folder),
            scenarios=("scaling",),
            sessions=(1, 4),
            single_stream_s=1.0,
            point_s=1.0,
            warmup_s=0.1,
            timeout_s=5.0,
        )
        return dataclasses.replace(plain, **changes)

    return build


@pytest.fixture(scope="session")
def build_usage() -> Callable[..., Usage]:
    """Makes the cost of a window; see `usage_of`."""
    return usage_of


@pytest.fixture
def point() -> Callable[..., Measurement]:
    """Makes a point; see `build_point`."""
    return build_point


@pytest.fixture
def make_report(image_folder: Path) -> Callable[..., BenchReport]:
    """Makes a report around points: ``make_report(single=[...], scaling=[...])``."""

    def make(*points: Any, images: ImagesSummary | None = None, **options: Any) -> BenchReport:
        return build_report(images or load_images(image_folder).summary, *points, **options)

    return make


@pytest.fixture
def full_report(make_report: Callable[..., BenchReport]) -> BenchReport:
    """A service of two lanes on two cores, saturated from 2 sessions on."""
    queued = STAGES | {"queue": 115.0}
    return make_report(
        single=[build_point(1, 40.0, stages=STAGES, server_cores=1.0)],
        scaling=[
            build_point(1, 40.0, stages=STAGES, server_cores=1.0),
            build_point(2, 42.0, stages=STAGES, server_cores=1.9),
            build_point(4, 83.0, stages=STAGES | {"queue": 43.0}, server_cores=1.9),
            build_point(8, 166.0, stages=queued, server_cores=1.9),
        ],
    )


# Names that hold a digit and are no figure.
NAMES = re.compile(r"\bp(50|90|95|99)\b|\b(bf16|f32|f16|v2)\b")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def resolve(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901)."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key) if isinstance(document, list) else key]
    return document


def check_traceable(report):
    """Every number of every sentence is in the JSON, where the evidence says, as it is written."""
    document = msgspec.json.decode(encode_json(report))
    assert report.findings
    for finding in report.findings:
        left = finding.text
        # The longest first: a "2" must not be taken out of a "2.0%".
        for proof in sorted(finding.evidence, key=lambda proof: -len(proof.shown)):
            assert resolve(document, proof.path) == proof.value
            assert proof.shown in left
            assert_written_right(proof)
            left = left.replace(proof.shown, "", 1)
        assert not NUMBER.findall(NAMES.sub("", left)), (finding.id, finding.text)


def assert_written_right(proof):
    """The shown number is the value, rounded and in the unit that stands with it."""
    if not isinstance(proof.value, int | float):
        assert proof.shown == str(proof.value)
        return
    if proof.path.endswith("server_cpu_s"):
        scale = 1e3
    else:
        scale = {"%": 100.0, "MiB": 2.0**-20, "KiB": 2.0**-10}.get(
            re.search(r"%|MiB|KiB|$", proof.shown)[0], 1.0
        )
    # A stage's name before the number may hold one too.
    written = re.findall(r"-?\d+(?:\.\d+)?", proof.shown)[-1]
    digits = len(written.partition(".")[2])
    assert float(written) == pytest.approx(proof.value * scale, abs=0.51 * 10**-digits)


@pytest.fixture(scope="session")
def assert_traceable() -> Callable[[BenchReport], None]:
    """Checks the words of a report against its JSON; see `check_traceable`."""
    return check_traceable
