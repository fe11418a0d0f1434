"""Import of optional packages: tells "absent" from "installed but broken"."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from seatrial.errors import BrokenExtra, MissingExtra

# OpenVINO and NNCF import it to report each use, import included, to Google Analytics; where it
# is absent they do without.
REPORTERS = ("openvino_telemetry",)


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module. Nobody is told of it: see `REPORTERS`.

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
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken install raises anything: OSError, AttributeError, ...
        raise BrokenExtra(
            f"{top} is installed but does not import: {type(error).__name__}: {error}",
            hint=f"pip install --force-reinstall 'seatrial[{extra}]'",
        ) from error
