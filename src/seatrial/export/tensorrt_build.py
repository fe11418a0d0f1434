"""Building a TensorRT engine, on the GPU that it will run on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from seatrial.config import encode_json
from seatrial.engines import cuda
from seatrial.engines.tensorrt import (
    EngineRecord,
    check_built_for,
    message_log,
    open_gpu,
    read_record,
    record_path,
)
from seatrial.errors import DeviceUnavailable, InvalidArtifact, SeatrialError
from seatrial.graphs.tensorrt_ready import add_profile, errors, parse
from seatrial.system.files import not_writable, sha256_file

ENGINE_FILE = "model.engine"
TIMING_CACHE_FILE = "timing.cache"
PURPOSE = "building TensorRT engines"


def build_engine(
    onnx: Path,
    folder: Path,
    *,
    precision: str,
    earlier: Path | None = None,
    tf32: bool = False,
) -> EngineRecord:
    """Build an engine for this machine's GPU.

    The folder gets ``model.engine``, ``model.engine.json`` (the record) and ``timing.cache``,
    all three or none.

    Args:
        onnx: A graph that `seatrial.graphs.tensorrt_ready.validate_for_tensorrt` takes.
        folder: There already.
        precision: Precision of the graph's weights, for the record: the graph decides.
        earlier: Folder of folders with earlier builds, for example a store: the timings of one for
            the same GPU and version are used again.
        tf32: Let float32 layers round to TF32. Off, since float32 would not be what it says.

    Returns:
        The record.

    Raises:
        MissingExtra: TensorRT is not installed.
        DeviceUnavailable: There is no GPU.
        InvalidArtifact: TensorRT refuses the graph.
        NotWritable: The folder cannot be written, or is full.
    """
    trt, _, gpu = open_gpu(PURPOSE)
    known = known_timings(earlier, gpu, str(trt.__version__)) if earlier is not None else b""
    begun = time.perf_counter()
    plan, timings = serialise(trt, onnx, timings=known, tf32=tf32)
    record = EngineRecord(
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        tensorrt=str(trt.__version__),
        onnx_sha256=sha256_file(onnx),
        precision=precision,
        tf32=tf32,
        timing_cache=TIMING_CACHE_FILE,
        build_s=round(time.perf_counter() - begun, 3),
    )
    engine = folder / ENGINE_FILE
    # The record last: without one, an engine file is not opened.
    write_all(
        {
            folder / TIMING_CACHE_FILE: timings,
            engine: plan,
            record_path(engine): encode_json(record),
        }
    )
    return record


def known_timings(builds: Path, gpu: cuda.Gpu, version: str) -> bytes:
    """The newest timing cache of builds for a GPU and a version; empty where there is none."""
    found = []
    for engine in builds.glob(f"[!.]*/{ENGINE_FILE}"):
        with contextlib.suppress(SeatrialError, OSError):  # what is damaged is of no use here
            record = read_record(engine)
            check_built_for(record, gpu, version)
            cache = engine.with_name(record.timing_cache)
            found.append((cache.stat().st_mtime, cache.read_bytes()))
    return max(found, default=(0.0, b""))[1]


def serialise(trt: Any, onnx: Path, *, timings: bytes, tf32: bool) -> tuple[bytes, bytes]:
    """Parse and build; nothing is written.

    Args:
        trt: The module ``tensorrt``; ``tensorrt_rtx`` will do, and needs no GPU.
        onnx: The graph.
        timings: A timing cache, or nothing.
        tf32: See `build_engine`.

    Returns:
        The engine, and the timing cache with what was measured now.

    Raises:
        InvalidArtifact: The graph is refused.
        DeviceUnavailable: The timing cache is another GPU's.
    """
    log = message_log(trt)
    builder = trt.Builder(log)
    network, problems = parse(trt, builder, log, onnx)
    if problems:
        raise InvalidArtifact(
            f"TensorRT refuses {onnx}: {'; '.join(map(str, problems))}",
            hint="export without postprocessing in the graph; INT8 needs signed, symmetric Q/DQ",
        )
    config = builder.create_builder_config()
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    add_profile(builder, network, config)
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        raise DeviceUnavailable(
            "the timing cache was measured on another GPU or by another TensorRT",
            hint="leave it out; a new one is measured",
        )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InvalidArtifact(
            f"TensorRT does not build {onnx}: {'; '.join(errors(log.messages)[-3:])}"
        )
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def write_all(contents: dict[Path, bytes]) -> None:
    """Write several files, in order: all of them or none.

    Raises:
        NotWritable: One cannot be written; those before it are removed again.
    """
    parts = {path.with_name(f".{path.name}.part"): path for path in contents}
    done: list[Path] = []
    try:
        for part, path in parts.items():
            part.write_bytes(contents[path])
        for part, path in parts.items():
            os.replace(part, path)
            done.append(path)
    except OSError as error:
        for path in done:
            path.unlink(missing_ok=True)
        raise not_writable(error.filename or "the engine", error) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
