"""Building TensorRT engines: all files or none, with the record of what they are for.

There may be no GPU here. What is real then: parser and builder (TensorRT-RTX builds without one).
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from seatrial.engines import cuda
from seatrial.engines.tensorrt import EngineRecord, read_record, record_path
from seatrial.errors import DeviceUnavailable, InvalidArtifact, MissingExtra, NotWritable
from seatrial.export.tensorrt_build import build_engine, known_timings, serialise, write_all
from seatrial.system.files import sha256_file

ModelFile = Callable[..., Path]
L4 = cuda.Gpu("NVIDIA L4", "8.9")
RTX = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)


@RTX
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
@pytest.mark.parametrize("tf32", [False, True])
def test_the_build_steps_run_in_the_real_builder(
    tmp_path: Path, tf32: bool, quantised: ModelFile
) -> None:
    import tensorrt_rtx

    path = quantised(tmp_path / "graph.onnx")
    plan, timings = serialise(tensorrt_rtx, path, timings=b"", tf32=tf32)
    assert len(plan) > 10_000
    assert isinstance(timings, bytes)
    assert list(tmp_path.iterdir()) == [path]


@RTX
def test_a_refused_graph_is_not_built(tmp_path: Path, quantised: ModelFile) -> None:
    import tensorrt_rtx

    path = quantised(tmp_path / "graph.onnx", zero=5)
    with pytest.raises(InvalidArtifact, match=r"refuses .*graph\.onnx: QuantizeLinear quantise"):
        serialise(tensorrt_rtx, path, timings=b"", tf32=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_without_a_gpu_nothing_is_made_and_no_package_is_asked_for(
    tmp_path: Path, out: Path, quantised: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libcuda.so.not-here")
    with pytest.raises(DeviceUnavailable, match="no NVIDIA GPU here") as refusal:
        build_engine(quantised(tmp_path / "graph.onnx"), out, precision="int8")
    assert "pip" not in refusal.value.hint
    assert list(out.iterdir()) == []


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed"
)
def test_without_tensorrt_nothing_is_made(
    tmp_path: Path, out: Path, quantised: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    with pytest.raises(MissingExtra) as refusal:
        build_engine(quantised(tmp_path / "graph.onnx"), out, precision="int8")
    assert "[tensorrt]" in refusal.value.hint
    assert list(out.iterdir()) == []


@RTX
@pytest.mark.usefixtures("rtx_as_tensorrt")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_an_engine_its_record_and_its_timings(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, quantised: ModelFile
) -> None:
    """Built by TensorRT-RTX for a GPU that is only claimed to be there."""
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    monkeypatch.setattr(cuda, "runtime", lambda: None)
    monkeypatch.setattr(cuda, "gpu", lambda cudart: L4)
    graph = quantised(tmp_path / "graph.onnx")
    record = build_engine(graph, out, precision="int8", earlier=tmp_path)
    assert sorted(p.name for p in out.iterdir()) == [
        "model.engine",
        "model.engine.json",
        "timing.cache",
    ]
    assert read_record(out / "model.engine") == record
    assert (record.gpu, record.compute_capability) == ("NVIDIA L4", "8.9")
    assert record.tensorrt == sys.modules["tensorrt"].__version__
    assert record.onnx_sha256 == sha256_file(graph)
    assert (record.precision, record.tf32) == ("int8", False)


def test_timings_of_the_same_gpu_and_version_are_used_again(tmp_path: Path) -> None:
    def earlier(name: str, gpu: str, version: str, timings: bytes, age_s: int) -> None:
        folder = tmp_path / name
        folder.mkdir()
        record = EngineRecord(
            gpu=gpu, compute_capability="8.9", tensorrt=version, onnx_sha256="0" * 64,
            precision="f32", tf32=False, timing_cache="timing.cache", build_s=1.0,
        )  # fmt: skip
        (folder / "model.engine").write_bytes(b"an engine")
        record_path(folder / "model.engine").write_bytes(msgspec.json.encode(record))
        (folder / "timing.cache").write_bytes(timings)
        os.utime(folder / "timing.cache", (1_000_000 - age_s,) * 2)

    assert known_timings(tmp_path, L4, "11.4.0") == b""
    earlier("other-gpu", "NVIDIA L40S", "11.4.0", b"other gpu", 0)
    earlier("other-version", "NVIDIA L4", "11.3.0", b"other version", 0)
    earlier(".staging-1", "NVIDIA L4", "11.4.0", b"half made", 0)
    earlier("damaged", "NVIDIA L4", "11.4.0", b"damaged", 0)
    record_path(tmp_path / "damaged" / "model.engine").write_bytes(b"{")
    assert known_timings(tmp_path, L4, "11.4.0") == b""
    earlier("old", "NVIDIA L4", "11.4.0", b"old", 100)
    earlier("new", "NVIDIA L4", "11.4.0", b"new", 10)
    assert known_timings(tmp_path, L4, "11.4.0") == b"new"


def test_several_files_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with pytest.raises(NotWritable, match="second"):
        write_all({tmp_path / "first": b"1", tmp_path / "second": b"2"})
    assert sorted(tmp_path.iterdir()) == [tmp_path / "second"]


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "second" in path.name:
            write_bytes(path, data[:1])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritable, match="No space left"):
        write_all({tmp_path / "first": b"1", tmp_path / "second": b"22"})
    assert list(tmp_path.iterdir()) == []
