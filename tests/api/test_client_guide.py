"""The guide on calling a service: its examples run, against a service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seatrial.artifact import Artifact
from served_application import Running, serve_application

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "call-a-service.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
PRINTS = (
    "<1 detection: 1 red>", "1.jpg ['red']\n2.jpg ['red']", "['red']", "['red'] ['red']",
    "('red', 'green', 'blue') 0", "[b'red'] [",
)  # fmt: skip


async def _ready(request: Request) -> Response:
    return Response("ok")


@pytest.fixture(scope="module")
def served(tiny_artifact: Artifact) -> Iterator[Running]:
    probes = (Route("/readyz", _ready),)
    with serve_application(tiny_artifact, probes=probes, grpc=True) as running:
        yield running


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_runs(
    served: Running, picture: Callable[..., Image.Image], tmp_path: Path, number: int
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        picture().save(tmp_path / name, quality=95)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    example = EXAMPLES[number].replace("yolo11n", "tiny")
    for written, port in ((":3000", served.port), (":3001", served.grpc_port)):
        example = example.replace(written, f":{port}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in paths if path),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{EXAMPLES[number]}\n{done.stderr}"
    assert PRINTS[number] in done.stdout


def test_every_example_has_what_it_prints() -> None:
    assert len(EXAMPLES) == len(PRINTS)
