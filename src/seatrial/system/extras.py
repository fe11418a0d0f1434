"""Import of optional packages: tells "absent" from "installed but broken"."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from seatrial.errors import BrokenExtra, MissingExtra

# What packages report their use with, to Google (OpenVINO and NNCF, their import included) and to
# Microsoft (ONNX Runtime from 1.29 on). Without the module, and with the variable, they do not.
REPORTERS = ("openvino_telemetry",)
OPT_OUTS = {"ORT_DISABLE_TELEMETRY": "1"}


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module. Nobody is told of it, see `REPORTERS`.

    Args:
        module: Dotted name, for example ``"openvino"``.
        extra: The extra of this package that installs it, for example ``"openvino"``.
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
        os.putenv(name, value)  # read by native code, once, as it is loaded
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken install raises anything: OSError, AttributeError, ...
        raise BrokenExtra(
            f"{top} is installed but does not import: {type(error).__name__}: {error}",
            hint=f"pip install --force-reinstall 'seatrial[{extra}]'",
        ) from error


def inner_failure(error: BaseException, *, package: str, extra: str) -> BrokenExtra | None:
    """What an import inside of a package failed of, where that is what an error is about.

    Packages that import their parts on use wrap what happened then in an error of their own, which
    hides it: torch and torchvision of different releases, in most cases.

    Args:
        error: As the package raised it.
        package: Its name.
        extra: The extra that installs it.

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
