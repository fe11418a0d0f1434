"""Inventory of this machine: hardware, engines and extras, and which of them work.

Engines and the packages for serving are tried. Packages that take seconds to import (training,
pages, INT8) are only looked up: they are ``installed``, which is less than ``works``.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from seatrial.artifact import Store
from seatrial.engines.tensorrt import open_gpu
from seatrial.errors import BrokenExtra, DeviceUnavailable, MissingExtra, first_line
from seatrial.system import hardware
from seatrial.system.extras import PACKAGES, install_command, require
from seatrial.system.openvino_core import openvino_core
from seatrial.system.versions import versions


class Part(msgspec.Struct, frozen=True):
    """One optional part.

    Attributes:
        name: Name of the part.
        state: ``works``: it was tried; ``installed``: it was not tried; ``missing``: a package or
            a device is not there; ``broken``: it is there and fails.
        version: Installed version; the detail has those of several packages.
        detail: What the part can do on this machine.
        remedy: What to do where it does not work.
    """

    name: str
    state: Literal["works", "installed", "missing", "broken"]
    version: str = ""
    detail: str = ""
    remedy: str = ""


class Examination(msgspec.Struct, frozen=True):
    """The findings of `examine`.

    Attributes:
        cpu: The processor.
        memory_total_gib: Memory of the machine, GiB.
        gpu: NVIDIA GPUs as the driver names them, or why there are none.
        python: Version of Python and of the system.
        store: Folder of the store.
        artifacts: Number of artifacts in it.
        parts: Optional parts.
    """

    cpu: hardware.Cpu
    memory_total_gib: float
    gpu: str
    python: str
    store: str
    artifacts: int
    parts: list[Part]


# Part -> the extra that installs it, and the modules of its packages.
LOOKED_UP = {
    "checkpoints": ("transformers", ("transformers", "torch", "timm", "onnx")),
    "YOLO checkpoints": ("yolo", ("ultralytics",)),
    "model hubs": ("hub", ("huggingface_hub", "modelscope_hub", "safetensors")),
    "training": (
        "train",
        ("lightning", "accelerate", "scipy", "transformers", "torch", "timm", "onnx"),
    ),
    "curves elsewhere": ("track", ("tensorboard", "mlflow", "sqlalchemy", "alembic")),
    "gRPC": ("grpc", ("grpc", "google.protobuf", "grpc_health", "grpc_reflection")),
    "compress": ("compress", ("nncf", "onnx", "onnxruntime", "openvino")),
    "sample digits": ("data", ("sklearn", "yaml")),
    "video": ("video", ("av", "scipy")),
    "demo": ("demo", ("gradio", "streamlit", "av", "scipy")),
}
# Builds of OpenCV, each with the module cv2; the first is ours.
OPENCV = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# Providers in every build that compute nothing here: they send requests to a paid service.
ELSEWHERE = frozenset({"AzureExecutionProvider"})


def examine(home: Path) -> Examination:
    """Try every part.

    Args:
        home: Folder of artifacts and services.
    """
    store = Store(home / "artifacts")
    return Examination(
        cpu=hardware.cpu(),
        memory_total_gib=hardware.memory_total_bytes() / 2**30,
        gpu=_gpu(),
        python=f"{platform.python_version()} on {platform.platform()}",
        store=str(store.root),
        artifacts=len(store.artifacts()),
        parts=[
            _try("engine openvino", "openvino", "openvino", "inference on CPUs", _openvino),
            _try("engine onnxruntime", "onnxruntime", "onnxruntime", "inference", _onnxruntime),
            _try("engine torch", "torch", "torch", "running exported torch graphs", _torch),
            _try("engine tensorrt", "tensorrt", "tensorrt", "inference on NVIDIA GPUs", _tensorrt),
            _opencv(),
            Part("engine null", "works", detail="cpu; measures all but the model"),
            _try(
                "TensorRT check",
                "tensorrt_rtx",
                "tensorrt-check",
                "trying graphs for TensorRT without a GPU",
                _tensorrt_check,
            ),
            _try("model import", "onnx", "onnxruntime", "reading ONNX files", _loads),
            _try("service", "bentoml", "serve", "serving", _loads),
            _try("benchmark", "httptools", "bench", "measuring", _loads),
            _try("YOLO folders", "yaml", "evaluate", "reading data.yaml", _loads),
            *(_look_up(name, *wanted) for name, wanted in LOOKED_UP.items()),
        ],
    )


def _try(name: str, module: str, extra: str, purpose: str, works: Callable[[], str]) -> Part:
    version = _version(module)
    try:
        require(module, extra=extra, purpose=purpose)
        return Part(name, "works", version, works())
    except BrokenExtra as error:
        return Part(name, "broken", version, error.message, error.hint)
    except (MissingExtra, DeviceUnavailable) as error:
        return Part(name, "missing", version, error.message, error.hint)
    except RuntimeError as error:  # it imports, and fails when it is used
        return Part(name, "broken", version, first_line(error), "reinstall it")


def _look_up(name: str, extra: str, modules: tuple[str, ...]) -> Part:
    absent = [_package(module) for module in modules if not _is_there(module)]
    there = [module for module in modules if _package(module) not in absent]
    known = ", ".join(f"{_package(module)} {_version(module)}".strip() for module in there)
    if not absent:
        version = "" if len(modules) > 1 else _version(modules[0])
        return Part(name, "installed", version, known)
    lacks = f"lacks {', '.join(absent)}" + (f"; has {known}" if known else "")
    return Part(name, "missing", "", lacks, install_command(extra))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _package(module: str) -> str:
    return PACKAGES.get(module, module.replace("_", "-"))


def _version(module: str) -> str:
    """Installed version of a module's package; empty where it is not known."""
    return versions(_package(module)).get(_package(module), "")


def _loads() -> str:
    return "imports"


def _openvino() -> str:
    core = openvino_core("the openvino engine")
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = [
        name
        for name, needs in (("f32", "FP32"), ("bf16", "BF16"), ("f16", "FP16"))
        if needs in able
    ]
    return f"devices {', '.join(core.available_devices)}; cpu in {', '.join(precisions)}"


def _onnxruntime() -> str:
    import onnxruntime as ort

    return ", ".join(name for name in ort.get_available_providers() if name not in ELSEWHERE)


def _torch() -> str:
    torch = require("torch", extra="torch", purpose="looking at its devices")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append(f"cuda ({torch.cuda.get_device_name(0)})")
    compiler = "g++" if shutil.which("g++") else "no C++ compiler: torch-compile will not work"
    return f"devices {', '.join(devices)}; {compiler}"


def _tensorrt() -> str:
    _, _, gpu = open_gpu("the tensorrt engine")
    return f"cuda ({gpu.name}, compute capability {gpu.compute_capability})"


def _tensorrt_check() -> str:
    tensorrt_rtx = require("tensorrt_rtx", extra="tensorrt-check", purpose="trying it")
    tensorrt_rtx.Builder(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    return "parses and builds"


def _opencv() -> Part:
    builds = versions(*OPENCV)
    del builds["seatrial"]
    known = ", ".join(f"{name} {version}" for name, version in builds.items())
    if len(builds) < 2:
        return Part("image decoding", "works", next(iter(builds.values()), ""), known)
    # pip installs them over one another.
    others = " ".join(name for name in builds if name != OPENCV[0])
    return Part(
        "image decoding",
        "works",
        detail=f"{known}: builds of one module, cv2; uninstalling one of them removes it",
        remedy=f"pip uninstall -y {others}, then pip install --force-reinstall {OPENCV[0]}",
    )


def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none seen (no nvidia-smi)"
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer: {error}"
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip()
        why = first_line(said) if said else f"nvidia-smi ended with {answer.returncode}"
        return f"none seen ({why})"
    return "; ".join(answer.stdout.strip().splitlines())
