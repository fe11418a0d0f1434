"""What all tests share: settings, hooks of pytest, fixtures; most of these are in tests/support."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from seatrial.artifact import Store
from seatrial.system.extras import OPT_OUTS
from signal_stack import use_the_ordinary_stack

# Some tests import ONNX Runtime themselves, which otherwise leaves a file for its telemetry.
os.environ.update(OPT_OUTS)
# Threads of PyTorch that wait for one another leave the cores to others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
    "large_packages",
    "led_processes",
    "running_services",
    "sample_detector",
    "secure_service",
    "service_clients",
    "small_detector",
    "temporary_files",
    "tiny_detector",
    "training_sets",
    "triton_python",
    "install_materials",  # which imports the one before
)
SHARED = Path(__file__).resolve().parents[2] / "shared"
TIME_LIMIT_S = 60

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
    """Each process of a run in parallel begins elsewhere with importing the files of a folder.

    In a fresh clone a file is compiled by whoever comes to it first, which takes half a minute of a
    core for all: each then compiles a part.
    """
    report = yield
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if isinstance(collector, pytest.Dir):
        first = len(report.result) * number // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        report.result = [*report.result[first:], *report.result[:first]]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the last file of a run in parallel is then a short one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, str(item.path)))


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


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


@pytest.fixture
def rtx_as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX under TensorRT's name: installed, as far as the code can tell."""
    module = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    find_spec = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: find_spec("tensorrt_rtx" if n == "tensorrt" else n)
    )
