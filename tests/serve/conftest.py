"""The application on a real server inside the test's process."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from certificates import Renewable
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.detect.opening import open_detector
from seatrial.serve.admission import Dispatcher
from served_application import PATIENCE_S, Running, serve_application


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a condition holds, and gives its value."""

    def wait(condition: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        while not (value := condition()):
            waited_s = time.monotonic() - begun
            assert waited_s < PATIENCE_S, "it never came to be"
            # Less and less often: what is waited for needs the cores too.
            time.sleep(min(0.002 + waited_s / 20, 0.05))
        return value

    return wait


@pytest.fixture
def metric() -> Callable[..., float]:
    """Value of one of the process's metrics, 0 where it has none yet."""

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    return value


@pytest.fixture
def ended_for(metric: Callable[..., float]) -> Callable[[str], float]:
    """Number of connections that were ended so far, by the reason."""
    return lambda reason: metric("seatrial_connections_closed_total", reason=reason)


@pytest.fixture
def renewable(tmp_path: Path) -> Renewable:
    """A server with a certificate that another one can take the place of."""
    return Renewable(tmp_path)


@pytest.fixture(scope="session")
def run_app(tiny_artifact: Artifact) -> Callable[..., Any]:
    """Serves the tiny detector from a thread: ``with run_app(limits=...) as running``."""
    return functools.partial(serve_application, tiny_artifact)


@pytest.fixture(scope="session")
def running(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One application for all tests that leave it as it was; bodies up to 256 KiB."""
    with run_app(Limits(body_bytes=2**18, image_pixels=1_000_000)) as served:
        yield served


@pytest.fixture(scope="session")
def files(picture: Callable[..., Image.Image], encode: Callable[..., bytes]) -> list[bytes]:
    """JPEG files in which the tiny detector finds two objects, none, one and one."""
    patches = [{(2, 3): "red", (5, 5): "blue"}, {}, {(1, 1): "green"}, {(6, 2): "blue"}]
    return [encode(picture(one), "JPEG") for one in patches]


@pytest.fixture(scope="session")
def images(files: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these files: 0.jpg to 3.jpg."""
    folder = tmp_path_factory.mktemp("images")
    for index, data in enumerate(files):
        (folder / f"{index}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def open_dispatcher(tiny_artifact: Artifact) -> Iterator[Callable[..., Dispatcher]]:
    """Opens dispatchers of the null engine with one lane; closes them."""
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    with contextlib.ExitStack() as opened:

        def open_one(**limits: Any) -> Dispatcher:
            dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits(**limits))
            opened.callback(dispatcher.close)
            return dispatcher

        yield open_one
