"""The torch engines: the graph's numbers, the threads and the precision asked for, or an error."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from packages import Later
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.torch import TorchLane, move, save
from seatrial.errors import DeviceUnavailable, InvalidArtifact, MissingExtra
from seatrial.system.extras import require

torch, modules = Later("torch"), Later("tests.support.tiny_module")
HAS_TORCH = importlib.util.find_spec("torch") is not None
ENGINES = ["torch", "torch-compile"]
BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)
# Conditions as text are looked at before the test, and not with the file.
GPU = pytest.mark.skipif("HAS_TORCH and not torch.cuda.is_available()", reason="no NVIDIA GPU")
NO_GPU = pytest.mark.skipif(
    "HAS_TORCH and torch.cuda.is_available()", reason="there is an NVIDIA GPU"
)
BF16 = pytest.mark.skipif(
    "HAS_TORCH and not torch.ops.mkldnn._is_mkldnn_bf16_supported()",
    reason="this CPU has no bf16 for PyTorch",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed"),
    # Inductor imports parts of PyTorch that PyTorch itself has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


def store_graph(artifact: Artifact, root: Path, module: Any = None, **changes: Any) -> Artifact:
    """An artifact with the tiny detector's manifest, and a torch graph for its file."""
    store = Store(root / "torch-store")
    with store.staging() as folder:
        save((module or modules.Tiny()).eval(), {"image": BATCH}, folder / "model.pt2")
        manifest = msgspec.structs.replace(
            artifact.manifest, formats={"torch": "model.pt2"}, **changes
        )
        return store.commit(folder, manifest)


@pytest.fixture(scope="module", autouse=True)
def compile_here() -> Iterator[None]:
    """Inductor compiles the kernels and their headers, and nothing else.

    No pool of processes, each of which would import PyTorch; no program for each set of
    instructions to see whether it loads: PyTorch knows those of this CPU.
    """
    settings = require("torch._inductor.config", extra="torch", purpose="this test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "compile_threads", 1)
        patch.setattr(settings.cpp, "vec_isa_ok", True)
        yield


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return store_graph(tiny_artifact, tmp_path_factory.mktemp("torch"))


@pytest.fixture(autouse=True)
def process_threads() -> Iterator[int]:
    """Threads of the process, which no engine may change for good."""
    before = torch.get_num_threads()
    yield before
    assert torch.get_num_threads() == before


def run(engine: Engine, batch: np.ndarray = BATCH) -> np.ndarray:
    (output,) = engine.narrow[0].infer({"image": batch}).values()
    return np.array(output)


@pytest.mark.parametrize("name", ENGINES)
def test_the_numbers_are_those_of_the_onnx_graph(
    artifact: Artifact, tiny_artifact: Artifact, name: str
) -> None:
    engine = open_engine(artifact, name, EngineConfig())
    assert (engine.name, engine.device, engine.precision) == (name, "cpu", "f32")
    assert engine.wide is None
    expected = run(open_engine(tiny_artifact, "onnxruntime", EngineConfig()))
    answer = run(engine)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_a_detector_on_top_sees_the_red_cell(
    artifact: Artifact, photo: bytes, box_of: Any, name: str
) -> None:
    with Detector(artifact, open_engine(artifact, name, EngineConfig())) as detector:
        detector.warm_up()
        found = detector.detect(photo, Thresholds()).detections
    assert [artifact.manifest.labels[index] for index in found.class_id] == ["red"]
    np.testing.assert_allclose(found.xyxy[0], box_of(2, 3), atol=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_every_lane_has_the_threads_that_it_says(artifact: Artifact, name: str) -> None:
    engine = open_engine(artifact, name, EngineConfig(instances=2, threads=1, wide_threads=2))
    lanes = [*engine.narrow, engine.wide]
    assert all(isinstance(lane, TorchLane) for lane in lanes)
    torch.set_num_threads(torch.get_num_threads())  # what others set is not taken over
    for lane, threads in zip(lanes, (1, 1, 2), strict=True):
        lane.infer({"image": BATCH})
        assert lane.threads == threads
        assert lane.threads_set() == threads
    assert engine.narrow[0] is not engine.narrow[1]
    engine.close()


def test_several_lanes_of_several_threads_are_given_too(artifact: Artifact) -> None:
    engine = open_engine(artifact, "torch", EngineConfig(instances=2, threads=2))
    assert [lane.threads_set() for lane in engine.narrow] == [2, 2]
    engine.close()


def test_a_lane_computes_on_its_own_thread_whoever_calls(artifact: Artifact) -> None:
    engine = open_engine(artifact, "torch", EngineConfig(instances=2))
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    for index, lane in enumerate(engine.narrow):
        forward = lane._forward

        def watched(*tensors: Any, forward: Any = forward, index: int = index) -> Any:
            seen[index].add(threading.get_ident())
            return forward(*tensors)

        lane._forward = watched
    callers = [
        threading.Thread(target=lane.infer, args=({"image": BATCH},))
        for lane in engine.narrow
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
        caller.join()
    assert [len(threads) for threads in seen.values()] == [1, 1]
    assert not seen[0] & seen[1]
    engine.close()


def test_lanes_side_by_side_do_not_mix(artifact: Artifact) -> None:
    engine = open_engine(artifact, "torch", EngineConfig(instances=2))
    pictures = [BATCH, 255 - BATCH]
    expected = [run(engine, picture) for picture in pictures]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            answer = engine.narrow[index].infer({"image": pictures[index]})["output0"]
            if not np.array_equal(answer, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    engine.close()


def test_a_picture_that_cannot_be_written_to_is_taken(artifact: Artifact) -> None:
    frozen = BATCH.copy()
    frozen.flags.writeable = False
    engine = open_engine(artifact, "torch", EngineConfig())
    np.testing.assert_array_equal(run(engine, frozen), run(engine))
    engine.close()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("f32", "float32"), pytest.param("bf16", "bfloat16", marks=BF16)],
)
def test_convolutions_compute_in_the_precision_asked_for(
    artifact: Artifact, precision: Any, dtype: str
) -> None:
    engine = open_engine(artifact, "torch", EngineConfig(precision=precision))
    assert engine.precision == precision
    lane = engine.narrow[0]
    forward, seen = lane._forward, modules.Seen()

    def watched(*tensors: Any) -> Any:
        with seen:
            return forward(*tensors)

    lane._forward = watched
    answer = run(engine)
    assert seen.dtypes == {getattr(torch, dtype)}
    assert answer.dtype == np.float32
    engine.close()


@BF16
@pytest.mark.parametrize("name", ENGINES)
def test_bf16_is_near_f32_and_not_the_same(artifact: Artifact, name: str) -> None:
    exact, rounded = (
        run(open_engine(artifact, name, EngineConfig(precision=precision)))
        for precision in ("f32", "bf16")
    )
    assert 0 < np.abs(exact - rounded)[:, 4:].max() < 0.02


@pytest.mark.skipif(
    "HAS_TORCH and torch.ops.mkldnn._is_mkldnn_fp16_supported()",
    reason="this CPU has f16 for PyTorch",
)
def test_a_precision_that_the_cpu_lacks_is_refused(artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match="no f16 arithmetic"):
        open_engine(artifact, "torch", EngineConfig(precision="f16"))


def test_half_precision_weights_are_not_run_in_another(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    half = store_graph(tiny_artifact, tmp_path, precision="f16")
    with pytest.raises(DeviceUnavailable, match="weights are f16"):
        open_engine(half, "torch", EngineConfig())


@NO_GPU
@pytest.mark.parametrize("name", ENGINES)
def test_a_gpu_that_is_not_there_is_an_error(artifact: Artifact, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="cannot run on 'cuda'") as refusal:
        open_engine(artifact, name, EngineConfig(device="cuda"))
    assert "--device cpu" in refusal.value.hint


def test_no_such_device(artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match="'npu'"):
        open_engine(artifact, "torch", EngineConfig(device="npu"))


def test_without_pytorch_the_extra_is_named(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as refusal:
        open_engine(artifact, "torch", EngineConfig())
    assert "[torch]" in refusal.value.hint


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_file_that_is_cut_off(artifact: Artifact, tmp_path: Path, kept: int) -> None:
    from seatrial.engines.torch import TorchEngine

    path = tmp_path / "cut.pt2"
    path.write_bytes(artifact.file("torch").read_bytes()[:kept])
    with pytest.raises(InvalidArtifact, match=r"does not read .*cut\.pt2"):
        TorchEngine(path, artifact.manifest, EngineConfig())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"shape": (1, 32, 32, 3)}, "its manifest says"), ({"dtype": "float32"}, "float32")],
)
def test_a_graph_that_takes_something_else(
    tiny_artifact: Artifact, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    (spec,) = tiny_artifact.manifest.inputs
    other = msgspec.structs.replace(spec, **changes)
    wrong = store_graph(tiny_artifact, tmp_path, inputs=(other,))
    with pytest.raises(InvalidArtifact, match=said):
        open_engine(wrong, "torch", EngineConfig())


def test_a_graph_that_gives_something_else(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (spec,) = tiny_artifact.manifest.outputs
    other = msgspec.structs.replace(spec, shape=(1, 84, 8400))
    wrong = store_graph(tiny_artifact, tmp_path, outputs=(other,))
    with pytest.raises(InvalidArtifact, match="output0"):
        open_engine(wrong, "torch", EngineConfig())


def test_a_failed_opening_leaves_no_threads(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (spec,) = tiny_artifact.manifest.outputs
    other = msgspec.structs.replace(spec, shape=(1, 84, 8400))
    wrong = store_graph(tiny_artifact, tmp_path, outputs=(other,))
    before = set(threading.enumerate())
    with pytest.raises(InvalidArtifact):
        open_engine(wrong, "torch", EngineConfig(instances=3))
    assert set(threading.enumerate()) <= before


def test_without_a_compiler_the_engine_that_needs_none_is_named(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = require("torch._inductor.cpp_builder", extra="torch", purpose="this test")
    failures = require("torch._inductor.exc", extra="torch", purpose="this test")

    def none_found(search: Any) -> str:
        raise failures.InvalidCxxCompiler

    monkeypatch.setattr(builder, "cpp_compiler_search", none_found)
    scaled = store_graph(tiny_artifact, tmp_path, modules.Scaled())
    with pytest.raises(DeviceUnavailable, match="does not run the graph") as refusal:
        open_engine(scaled, "torch-compile", EngineConfig())
    assert "the torch engine needs no C++ compiler" in refusal.value.hint


def test_a_file_is_there_in_full_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(program: Any, path: Path) -> None:
        path.write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        save(modules.Tiny().eval(), {"image": BATCH}, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_program_moves_with_its_weights(artifact: Artifact) -> None:
    program = move(torch.export.load(artifact.file("torch")), "meta")
    assert {tensor.device.type for tensor in program.state_dict.values()} == {"meta"}


@GPU
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_on_a_gpu_the_numbers_are_the_cpus(artifact: Artifact, name: str, precision: Any) -> None:
    config = EngineConfig(device="cuda", precision=precision, instances=2)
    engine = open_engine(artifact, name, config)
    expected = [
        run(open_engine(artifact, "torch", EngineConfig()), b) for b in (BATCH, 255 - BATCH)
    ]
    for lane in engine.narrow:
        for picture, answer in zip((BATCH, 255 - BATCH), expected, strict=True):
            got = lane.infer({"image": picture})["output0"]
            np.testing.assert_allclose(got, answer, atol=1e-5 if precision == "f32" else 0.02)
    assert engine.device == "cuda"
    assert engine.properties()["cuda_graph"] == ("yes" if name == "torch-compile" else "no")
    engine.close()
