"""A tiny detector whose answer is known beforehand, pictures for it, and services around it.

The detector looks at squares of 8 x 8 canvas pixels. A square that is red, green or blue, and
not grey, has an object of that class in its middle, 16 x 16 canvas pixels in size, of a
confidence that is the saturation. Everything else follows by arithmetic.
"""

from __future__ import annotations

import gc
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import torchvision_operators
from seatrial.artifact import Artifact, Store
from seatrial.deployment import CoreLayout, Deployment, Limits, RuntimeName, Server
from seatrial.errors import MissingExtra
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.address import with_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import write_service
from seatrial.system.extras import OPT_OUTS, import_ultralytics_package
from signal_stack import use_the_ordinary_stack

# Some tests import ONNX Runtime themselves, which otherwise leaves a file for its telemetry.
os.environ.update(OPT_OUTS)
# Of the hundreds of processes that tests start, each would compile anew what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Fixtures that several packages use.
pytest_plugins = (
    "browser",
    "bench_fixtures",
    "by_needs",
    "cats_and_dogs",
    "checkpoints",
    "labelled_boxes",
    "labelled_scenes",
    "sample_detector",
    "service_clients",
    "small_detector",
    "temporary_files",
    "training_sets",
    "install_materials",  # which imports the one before
)
SHARED = Path(__file__).resolve().parents[2] / "shared"
CELL_PX = 8
BOX_PX = 16
TIME_LIMIT_S = 60
COLOURS = ("red", "green", "blue")

# A shared machine stalls now and then: a slow example is no failure.
settings.register_profile(
    "seatrial",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("seatrial")

# A shell starts what runs in its background with Ctrl-C ignored, nohup with SIGHUP, and children
# inherit that: tests of these signals would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # The run itself goes on without its terminal; a handler is not inherited.
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--folders", type=int, default=120, help="datasets that tests/datasets draws (default: 120)"
    )
    parser.addoption(
        "--large-extras", action="store_true", help="try each extra with PyTorch alone as well"
    )
    parser.addoption(
        "--containers",
        action="store_true",
        help="build an image of Triton and serve from it, on a container engine of its own "
        "(root, dockerd; a minute and 2 GB)",
    )


def pytest_runtest_setup() -> None:
    use_the_ordinary_stack()


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """Name the test whose process died at once: a run that is cut off later prints no summary."""
    print(f"\nthe process of {crashitem} died", file=sys.stderr, flush=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[object]:
    """Leave what was collected, which stays to the end, out of garbage collection.

    Thousands of tests and the modules that they import are most of the objects of a process:
    each full collection would look through them all, half a second of a core every time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    """Every second process of a run in parallel imports the files from the last to the first.

    In a fresh clone a file is compiled by whoever comes to it first, which takes half a minute of a
    core for all: each then compiles a half.
    """
    report = yield
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if isinstance(collector, pytest.Dir) and number % 2:
        report.result.reverse()
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the last file of a run in parallel is then a short one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, str(item.path)))


def build_tiny(
    *,
    size_hw: tuple[int, int] = (64, 64),
    names: tuple[str, ...] = COLOURS,
    layout: str = "anchors",
    batch: int | str = 1,
    dynamic_size: bool = False,
    half: bool = False,
    input_name: str = "images",
    output_name: str = "output0",
    metadata: dict[str, str] | None = None,
) -> Any:
    """The detector as Ultralytics' exporter would write it.

    Args:
        size_hw: Canvas (height, width), multiples of 8.
        names: Class names, at most three: red, green, blue.
        layout: ``anchors`` for [N, 4 + classes, A], ``end_to_end`` for [N, 300, 6].
        batch: Batch size, or the name of a dynamic one.
        dynamic_size: Height and width of the input are named, not fixed.
        half: Input, weights and output in float16.
        input_name: Of the graph.
        output_name: Of the graph.
        metadata: Overrides; an empty value leaves the key out.

    Returns:
        ``onnx.ModelProto``.
    """
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    rows, columns = size_hw[0] // CELL_PX, size_hw[1] // CELL_PX
    classes, cells = len(names), rows * columns
    # Saturation: a channel less the mean of the two others, averaged over a cell.
    mix = (1.5 * np.eye(3) - 0.5)[:classes]
    weights = np.repeat(mix[:, :, None, None], CELL_PX, 2).repeat(CELL_PX, 3) / CELL_PX**2
    y, x = np.mgrid[:rows, :columns] * CELL_PX + CELL_PX / 2
    centres = np.stack([x.ravel(), y.ravel()])  # (2, A)
    sides = np.full((2, cells), BOX_PX)
    constants = {
        "weights": weights.astype(dtype),
        "flat": np.array([0, classes, -1], np.int64),
        "low": np.array(0, dtype),
        "high": np.array(1, dtype),
    }
    nodes = [
        helper.make_node("Conv", [input_name, "weights"], ["saturation"], strides=[CELL_PX] * 2),
        helper.make_node("Clip", ["saturation", "low", "high"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "flat"], ["scores"]),  # (N, classes, A)
    ]
    if layout == "anchors":
        constants["boxes"] = np.concatenate([centres, sides])[None].astype(dtype)
        # 0 * scores gives the boxes the batch size of the scores.
        nodes += [
            helper.make_node("ReduceSum", ["scores", "class_axis"], ["mass"], keepdims=1),
            helper.make_node("Mul", ["mass", "low"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["placed"]),
            helper.make_node("Concat", ["placed", "scores"], [output_name], axis=1),
        ]
        constants["class_axis"] = np.array([1], np.int64)
        shape: list[int | str] = [batch, 4 + classes, "anchors" if dynamic_size else cells]
    else:
        corners = np.concatenate([centres - sides / 2, centres + sides / 2])
        constants |= {
            "boxes": corners.T[None].astype(dtype),  # (1, A, 4)
            "filling": np.array([0, 0, 0, 0, 300 - cells, 0], np.int64),
        }
        nodes += [
            helper.make_node("Transpose", ["scores"], ["by_cell"], perm=[0, 2, 1]),
            helper.make_node("ReduceMax", ["by_cell"], ["best"], axes=[2], keepdims=1),
            helper.make_node("ArgMax", ["by_cell"], ["which"], axis=2, keepdims=1),
            helper.make_node("Cast", ["which"], ["class"], to=kind),
            helper.make_node("Mul", ["best", "low"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["placed"]),
            helper.make_node("Concat", ["placed", "best", "class"], ["found"], axis=2),
            helper.make_node("Pad", ["found", "filling", "low"], [output_name]),
        ]
        shape = [batch, 300, 6]
    size: list[int | str] = ["height", "width"] if dynamic_size else [*size_hw]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, kind, [batch, 3, *size])],
        [helper.make_tensor_value_info(output_name, kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    facts = {
        "description": "Ultralytics YOLO11t model trained on colours.yaml",
        "author": "Ultralytics",
        "date": "2026-01-01T00:00:00",
        "version": "8.3.0",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "stride": str(CELL_PX),
        "task": "detect",
        "batch": "1",
        "imgsz": str(list(size_hw)),
        "names": str(dict(enumerate(names))),
        **(metadata or {}),
    }
    helper.set_model_props(model, {key: value for key, value in facts.items() if value})
    return model


def build_picture(
    patches: dict[tuple[int, int], str] | None = None,
    *,
    cells_hw: tuple[int, int] = (8, 8),
    cell_px: int = 16,
    mode: str = "RGB",
) -> Image.Image:
    """A grey picture with cells in colour.

    Args:
        patches: (row, column) of a cell -> colour; one red cell at (2, 3) by default.
        cells_hw: Size of the picture in cells.
        cell_px: Side of a cell; 16 keeps JPEG's blocks and chroma samples within one cell.
        mode: PIL mode of the picture.
    """
    pixels = np.full((cells_hw[0] * cell_px, cells_hw[1] * cell_px, 3), 114, np.uint8)
    for (row, column), colour in ({(2, 3): "red"} if patches is None else patches).items():
        top, left = row * cell_px, column * cell_px
        pixels[top : top + cell_px, left : left + cell_px] = np.eye(3)[COLOURS.index(colour)] * 255
    return Image.fromarray(pixels).convert(mode)


def build_file(picture: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    if image_format == "JPEG":
        options = {"quality": 95, **options}
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def expected_box(row: int, column: int, cell_px: int = 16) -> list[float]:
    """Where the tiny detector sees a coloured cell, source pixels, for canvases of its own shape.

    Cells at the border have boxes that reach out of the picture; they are clipped there.
    """
    half = cell_px * BOX_PX / CELL_PX / 2
    x, y = (column + 0.5) * cell_px, (row + 0.5) * cell_px
    return [x - half, y - half, x + half, y + half]


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fails a test that hangs, instead of hanging with it; for tests that wait for threads."""

    def give_up(signum: int, frame: object) -> None:
        pytest.fail(f"not over after {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Builds the tiny detector; see `build_tiny`."""
    return build_tiny


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Builds a picture of coloured cells; see `build_picture`."""
    return build_picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Writes a picture to the bytes of a file; see `build_file`."""
    return build_file


@pytest.fixture(scope="session")
def box_of() -> Callable[..., list[float]]:
    """Where the tiny detector sees a cell; see `expected_box`."""
    return expected_box


@pytest.fixture(scope="session")
def photo(picture: Callable[..., Image.Image], encode: Callable[..., bytes]) -> bytes:
    """A 128 x 128 JPEG with one red cell, at row 2 and column 3."""
    return encode(picture())


@pytest.fixture
def model_file(tmp_path: Path, tiny_model: Callable[..., Any]) -> Callable[..., Path]:
    """Writes a variant of the tiny detector to a file: ``model_file(layout="end_to_end")``."""

    def write(name: str = "tiny.onnx", **variant: Any) -> Path:
        path = tmp_path / name
        onnx.save(tiny_model(**variant), path)
        return path

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny detector with three classes on a 64 x 64 canvas, in a store of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(build_tiny(), folder / "tiny.onnx")
    return import_onnx(Store(folder / "store"), folder / "tiny.onnx")


@pytest.fixture(scope="session")
def start_service(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ServiceProcess]:
    """Starts a service on a free port; a context manager that is ready when entered.

    Server processes of BentoML's supervisor run the given code first.
    """

    def start(
        artifact: Artifact = tiny_artifact,
        *,
        engine: str = "openvino",
        layout: CoreLayout | None = None,
        limits: Limits | None = None,
        drain_notice_s: float = 0.0,
        port: int = 0,
        grpc: bool = False,
        code: str = "",
        runtime: RuntimeName = "bentoml",
        log_format: Literal["text", "json"] = "text",
        env: Mapping[str, str] | None = None,
    ) -> ServiceProcess:
        folder = tmp_path_factory.mktemp("service")
        deployment = Deployment(
            model=str(artifact.path),
            engine=engine,
            layout=layout or CoreLayout(workers=1),
            limits=limits or Limits(drain_s=20),
            server=Server(
                port=port,
                grpc_port=0 if grpc else None,
                drain_notice_s=drain_notice_s,
                log_format=log_format,
                runtime=runtime,
            ),
        )
        deployment = with_port(deployment)
        service = write_service(folder / "bento", artifact, deployment)
        with (service / "service.py").open("a") as program:
            program.write(code)
        # A supervisor that is killed leaves its temporary files.
        own = {**os.environ, "TMPDIR": str(folder), **(env or {})}
        log = folder / "service.log"
        return ServiceProcess(service, deployment, own, log, ready_within_s=60)

    return start


@pytest.fixture(scope="session")
def service(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """One running service of the tiny detector, with a body limit of 1 MiB."""
    with start_service(limits=Limits(body_bytes=2**20, drain_s=20)) as running:
        yield running


@pytest.fixture(scope="session")
def shared_yolo() -> Path:
    """YOLO11n as an ONNX file."""
    path = SHARED / "models" / "yolo11n.onnx"
    if not path.is_file():
        pytest.skip("no ../shared")
    return path


@pytest.fixture(scope="session")
def shared_photos() -> list[Path]:
    """Labelled photos of COCO."""
    photos = sorted((SHARED / "data" / "coco-val").rglob("*.jpg"))
    if not photos:
        pytest.skip("no ../shared")
    return photos


@pytest.fixture(scope="session")
def torch() -> Any:
    """The package, on one thread: its threads wait for each other, which a busy machine makes long.

    Skips where it is not installed.
    """
    package = pytest.importorskip("torch", reason="seatrial[torch] is not installed")
    package.set_num_threads(1)
    return package


@pytest.fixture(scope="session")
def transformers(torch: Any) -> Any:
    """The package; skips where it or torch is not installed."""
    torchvision_operators.provide()
    return pytest.importorskip("transformers", reason="seatrial[transformers] is not installed")


@pytest.fixture(scope="session")
def ultralytics(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, which asks no host for anything; skips where it or torch is not installed."""
    torchvision_operators.provide()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        try:
            yield import_ultralytics_package(purpose="this test")
        except MissingExtra as error:
            pytest.skip(error.message)


@pytest.fixture
def rtx_as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX under TensorRT's name: installed, as far as the code can tell."""
    module = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    find_spec = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: find_spec("tensorrt_rtx" if n == "tensorrt" else n)
    )


def deployment_of(artifact: Artifact, **changes: Any) -> Deployment:
    """A small deployment of an artifact: one process, one narrow lane, no wide one."""
    plain = Deployment(str(artifact.path), layout=CoreLayout(1, 1, 1, wide=False))
    return msgspec.structs.replace(plain, **changes)
