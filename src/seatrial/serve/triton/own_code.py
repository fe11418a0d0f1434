"""Code and packages that a model of Triton's Python backend runs with.

The code lies in the repository, so that a model is always run by the Seatrial that packaged it.
Triton looks for modules in the folders of the model and in its environment, whatever
``PYTHONPATH`` says.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

import seatrial

CODE = "seatrial.zip"  # Python imports from it
# Beside numpy, which Triton's Python backend brings in the version that it can use.
PACKAGES = ("msgspec", "opencv-python-headless", "pillow", "simplejpeg", "typing-extensions")
MODULES = ("msgspec", "cv2", "PIL", "simplejpeg")  # theirs
OF_ENGINES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "flatbuffers", "packaging", "protobuf"),
    "onnxruntime-tensorrt": ("onnxruntime-gpu", "flatbuffers", "packaging", "protobuf"),
    "tensorrt": ("tensorrt", "cuda-bindings", "cuda-pathfinder"),
    "torch": ("torch",),
    "torch-compile": ("torch",),
    "null": (),
}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file


def requirements(engine: str) -> list[str]:
    """Requirements of the models, without what they require themselves.

    Versions are those here: another OpenCV scales images to other pixels, and another runtime
    gives other outputs. A package that is not here has no version.

    Args:
        engine: Engine that runs in Python; ``null`` where another backend runs the graph.
    """
    return [_pinned(name) for name in (*PACKAGES, *OF_ENGINES[engine])]


def _pinned(package: str) -> str:
    try:
        # A build's own label (+cpu) is not on every index.
        return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
    except importlib.metadata.PackageNotFoundError:
        return package


def write_code(file: Path) -> None:
    """Write the modules of this Seatrial as a zip file."""
    root = Path(seatrial.__file__).parent
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in sorted(root.rglob("*.py")):
            name = f"{root.name}/{module.relative_to(root).as_posix()}"
            archive.writestr(
                zipfile.ZipInfo(name, EPOCH), module.read_bytes(), zipfile.ZIP_DEFLATED
            )
