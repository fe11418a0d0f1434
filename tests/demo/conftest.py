"""A demonstration of the tiny detector, and pictures and videos to show to it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import psutil
import pytest
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.demo.media import Media, open_media
from seatrial.demo.models import Model, Models, open_artifact
from seatrial.demo.workbench import Choice, View, Workbench
from seatrial.deployment import CoreLayout, Deployment, DetectionDefaults
from seatrial.models.import_onnx import import_onnx

PALE = {(2, 2): ("red", 1.0), (2, 3): ("red", 0.6), (5, 5): ("blue", 0.4)}


def build_clip(
    pictures: Sequence[Image.Image],
    *,
    rate_hz: int = 10,
    container: str = "mp4",
    codec: str = "libx264",
) -> bytes:
    """A video of pictures of one size."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_image(picture)))
        output.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="session")
def pale(picture: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
    """Builds a picture whose cells have a saturation, which is the confidence of their box.

    ``pale({(2, 2): ("red", 0.6)})``; by default a sure red, a red that is less sure right of it
    (their boxes have an IoU of 1/3), and a pale blue.
    """

    def build(patches: dict[tuple[int, int], tuple[str, float]] | None = None) -> Image.Image:
        patches = patches or PALE
        full = picture({place: colour for place, (colour, _) in patches.items()})
        pixels = np.asarray(full).astype(np.float64)
        for (row, column), (_, saturation) in patches.items():
            cell = np.s_[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            pixels[cell] = 114 + saturation * (pixels[cell] - 114)
        return Image.fromarray(pixels.round().astype(np.uint8))

    return build


@pytest.fixture(scope="session")
def clip() -> Callable[..., bytes]:
    """See `build_clip`."""
    return build_clip


@pytest.fixture(scope="session")
def open_tiny(tiny_artifact: Artifact) -> Callable[..., Model]:
    """Opens the tiny detector under a name."""

    def open_model(
        name: str = "tiny",
        artifact: Artifact = tiny_artifact,
        detection: DetectionDefaults = DetectionDefaults(),  # noqa: B008 - frozen
    ) -> Model:
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment(
            str(artifact.path), engine="onnxruntime", layout=layout, detection=detection
        )
        return open_artifact(name, artifact, deployment)

    return open_model


@pytest.fixture(scope="session")
def other_artifact(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Any]
) -> Artifact:
    """The tiny detector with a class of another name, a long one."""
    folder = tmp_path_factory.mktemp("other")
    onnx.save(tiny_model(names=("crimson traffic light", "green", "blue")), folder / "other.onnx")
    return import_onnx(Store(folder / "store"), folder / "other.onnx")


@pytest.fixture
def workbench(open_tiny: Callable[..., Any]) -> Iterator[Workbench]:
    """The tiny detector, and itself to compare with."""
    with Models(open_tiny(), {"again": lambda: open_tiny("again")}) as models:
        yield Workbench(models)


@pytest.fixture
def pale_media(pale: Callable[..., Any], encode: Callable[..., bytes]) -> Media:
    """The picture of `pale` as it is opened."""
    return open_media("pale.png", encode(pale(), "PNG"))


@pytest.fixture
def view(workbench: Workbench, pale: Callable[..., Any], encode: Callable[..., bytes]) -> View:
    """The two red ones of three boxes, in a picture."""
    media = open_media("some cells.png", encode(pale(), "PNG"))
    return workbench.view(media, Choice(0.5))


@pytest.fixture
def clip_view(
    workbench: Workbench, clip: Callable[..., bytes], picture: Callable[..., Any]
) -> View:
    """Three frames of a video."""
    media = open_media("walk.mp4", clip([picture({(2, n): "red"}) for n in range(3)]))
    return workbench.view(media, Choice())


@dataclass
class RunningDemo:
    """``seatrial demo`` as a process that answers.

    Attributes:
        url: As it printed it.
        said: What it printed until then.
        process: The command itself.
        contacted: File of the hosts outside this machine that the process looked up or called.
    """

    url: str
    said: str
    process: subprocess.Popen[str]
    contacted: Path


# The interpreter's own record of who is called; see PEP 578.
WATCH = """
import sys
HOME = ("127.", "::1", "localhost", "0.0.0.0")
def watch(event, values):
    host = {"socket.getaddrinfo": lambda: values[0], "socket.connect": lambda: values[1]}
    if event in host:
        called = host[event]()
        called = called[0] if isinstance(called, tuple) else called
        if isinstance(called, str) and not called.startswith((*HOME, "/")):
            with open(FILE, "a") as file:
                file.write(f"{event} {called}\\n")
sys.addaudithook(watch)
"""


@pytest.fixture(scope="session")
def start_demo(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Starts ``seatrial demo`` with arguments; a context manager that answers when entered.

    ``stored`` are artifacts in its store. In the end nothing may have been left behind.
    """

    @contextlib.contextmanager
    def start(*arguments: str, stored: Sequence[Artifact] = ()) -> Iterator[RunningDemo]:
        home = tmp_path_factory.mktemp("demo")
        for artifact in stored:
            shutil.copytree(artifact.path, home / "artifacts" / artifact.manifest.name)
        (home / "sitecustomize.py").write_text(f"FILE = {str(home / 'contacted')!r}\n{WATCH}")
        (home / "contacted").touch()
        path = os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])
        (home / "tmp").mkdir()
        process = subprocess.Popen(
            [sys.executable, "-m", "seatrial.cli.main", "demo", *arguments, "--port", "0"],
            env={
                **os.environ, "PYTHONPATH": path, "TMPDIR": str(home / "tmp"),
                "SEATRIAL_HOME": str(home), "HOME": str(home),
            },
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        children: list[psutil.Process] = []
        try:
            said = ""
            for line in process.stderr:
                said += line
                if found := re.search(r"http://\S+(?=  \(Ctrl-C ends\))", line):
                    yield RunningDemo(found[0], said, process, home / "contacted")
                    break
            else:
                pytest.fail(f"it ended before it answered:\n{said}")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            rest = process.communicate(timeout=20)[1]
        assert "Traceback" not in rest
        assert process.returncode == 128 + signal.SIGTERM
        assert [child for child in children if child.is_running()] == []
        assert not list((home / "tmp").glob("seatrial-*")), "files were left behind"

    return start
