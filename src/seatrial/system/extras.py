"""Import of optional packages; a missing package and a broken one are different errors."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from seatrial.errors import BrokenExtra, MissingExtra

# With these, packages report their use (even their import) to Google (OpenVINO, NNCF) and to
# Microsoft (ONNX Runtime from 1.29 on). The module is blocked and the variable set: no reports.
REPORTERS = ("openvino_telemetry",)
OPT_OUTS = {"ORT_DISABLE_TELEMETRY": "1"}


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
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise MissingExtra(
            f"{top} is not installed; it is needed for {purpose}",
            hint=f"pip install 'seatrial[{extra}]'",
        )
    for reporter in REPORTERS:
        sys.modules.setdefault(reporter, None)  # type: ignore[arg-type]  # importing it fails
    for name, value in OPT_OUTS.items():
        os.putenv(name, value)  # native code reads it once, when it is loaded
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken install raises any error: OSError, AttributeError, ...
        raise BrokenExtra(
            f"{top} is installed but does not import: {type(error).__name__}: {error}",
            hint=f"pip install --force-reinstall 'seatrial[{extra}]'",
        ) from error


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
        hint=f"pip install --force-reinstall 'seatrial[{extra}]'{beside}",
    )
