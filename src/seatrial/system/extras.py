"""Import of optional packages; a missing package and a broken one are different errors."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from seatrial.errors import BrokenExtra, MissingExtra

# Module -> package, where their names differ.
PACKAGES = {
    "cv2": "opencv-python-headless",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "mlflow": "mlflow-skinny",
    "modelscope_hub": "modelscope-hub",
    "PIL": "pillow",
    "prometheus_client": "prometheus-client",
    "sklearn": "scikit-learn",
    "ultralytics": "ultralytics-opencv-headless",
    "yaml": "pyyaml",
}
# With these, packages report their use (even their import) to Google (OpenVINO, NNCF) and to
# Microsoft (ONNX Runtime from 1.29 on). The module is blocked and the variable set: no reports.
REPORTERS = ("openvino_telemetry",)
OPT_OUTS = {"ORT_DISABLE_TELEMETRY": "1"}


def check_installed(module: str, *, extra: str, purpose: str) -> None:
    """Check that an optional module is there, without importing it; see `require`.

    Raises:
        MissingExtra: The package is not installed.
    """
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise MissingExtra(
            f"{top} is not installed; it is needed for {purpose}",
            hint=install_command(extra),
        )


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, without the usage reports of `REPORTERS`.

    Args:
        module: Dotted name, for example ``"openvino"``.
        extra: Name of the extra that installs it, for example ``"openvino"``.
        purpose: What needs it; completes "... is needed for <purpose>".

    Raises:
        MissingExtra: The package is not installed.
        BrokenExtra: It is installed, and importing it fails.
    """
    check_installed(module, extra=extra, purpose=purpose)
    top = module.partition(".")[0]
    for reporter in REPORTERS:
        sys.modules.setdefault(reporter, None)  # type: ignore[arg-type]  # importing it fails
    for name, value in OPT_OUTS.items():
        os.putenv(name, value)  # native code reads it once, when it is loaded
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken install raises any error: OSError, AttributeError, ...
        raise BrokenExtra(
            f"{top} is installed but does not import: {type(error).__name__}: {error}",
            hint=install_command(extra, "--force-reinstall"),
        ) from error


def install_command(extra: str, options: str = "") -> str:
    """The command that installs an extra, from where this Seatrial was installed from.

    Where that checkout or wheel is gone, the command names the packages of the extra.

    Args:
        extra: Name of the extra.
        options: Options of ``pip install``.
    """
    start = f"pip install {options}".rstrip()
    origin = installed_from()
    if origin is None:
        return f"{start} 'seatrial[{extra}]'"
    place, editable = origin
    if not place.exists():
        needed = [one for one, found in _requirements() if found == extra]
        return " ".join([start, *(f"'{one}'" for one in needed)])
    return f"{start} {'-e ' if editable else ''}'{place}[{extra}]'"


def installed_from() -> tuple[Path, bool] | None:
    """The checkout or wheel that Seatrial was installed from, and whether as editable.

    None where it came from an index or another host, or is not installed. ``direct_url.json`` has
    it (PEP 610).
    """
    try:
        noted = importlib.metadata.distribution("seatrial").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:  # a folder on PYTHONPATH
        return None
    origin = json.loads(noted or "{}")
    url = urlsplit(origin.get("url", ""))
    if url.scheme != "file":
        return None
    return Path(unquote(url.path)), bool(origin.get("dir_info", {}).get("editable"))


def _requirements() -> list[tuple[str, str]]:
    """Requirements of the installed Seatrial, each with its extra; an empty one for all."""
    try:
        lines = importlib.metadata.requires("seatrial") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    found = (re.fullmatch(r"([^;]+?)\s*(?:;\s*extra == ['\"](.+)['\"])?", one) for one in lines)
    return [(one[1], one[2] or "") for one in found if one]


def missing_package(error: ImportError) -> MissingExtra | None:
    """The error for a package that an import did not find; None where another import failed.

    It is for what no `require` has checked: a package that Seatrial cannot do without, or that a
    package of an extra needs.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, ModuleNotFoundError):
        found = found.__cause__
    top = ((found and found.name) or "").partition(".")[0]
    if top in ("", "seatrial"):
        return None
    package = PACKAGES.get(top, top).replace("_", "-")
    wanted = _requirements()
    sizes = Counter(extra for _, extra in wanted)
    named = {
        extra
        for one, extra in wanted
        if re.split(r"[^\w.-]", one)[0].replace("_", "-").lower() == package.lower()
    }
    if named and "" not in named:
        smallest = min(named, key=lambda extra: (sizes[extra], extra))
        return MissingExtra(f"{top} is not installed", hint=install_command(smallest))
    return MissingExtra(
        f"{top} is not installed, or a part of it is missing",
        hint=f"pip install --force-reinstall {package}",
    )


def import_ultralytics_package(module: str = "ultralytics", *, purpose: str) -> ModuleType:
    """Import Ultralytics or a module of it, and put back what it replaces elsewhere.

    It replaces ``PIL.Image.open`` by a function of its own that installs a package when a file is
    no image: a damaged image then ends in an ``ImportError`` instead of the error that says so. It
    also changes how numpy prints.

    Args:
        module: Dotted name.
        purpose: What needs it; completes "... is needed for <purpose>".

    Raises:
        MissingExtra: It is not installed.
        BrokenExtra: It is installed, and importing it fails.
    """
    import numpy as np  # here: many modules import this one, and few of them need arrays
    from PIL import Image

    kept, printing = Image.open, np.get_printoptions()
    try:
        return require(module, extra="yolo", purpose=purpose)
    finally:
        Image.open = kept
        np.set_printoptions(**printing)


def inner_failure(error: BaseException, *, package: str, extra: str) -> BrokenExtra | None:
    """Find the failed import behind an error of a package.

    Packages that import their parts on use hide the failure in an error of their own; most often
    torch and torchvision are of different releases.

    Args:
        error: Error that the package raised.
        package: Name of the package.
        extra: Name of the extra that installs it.

    Returns:
        The error to raise instead; None where no import failed.
    """
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    if not any(isinstance(one, ImportError) for one in chain):
        return None
    first = chain[-1]
    beside = " torchvision" if "torchvision" in str(first) else ""
    return BrokenExtra(
        f"{package} is installed but a part of it does not import: {type(first).__name__}: {first}",
        hint=install_command(extra, "--force-reinstall") + beside,
    )
