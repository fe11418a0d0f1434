"""Import of Ultralytics, which changes other packages while it is imported."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from PIL import Image

from seatrial.system.extras import require


def import_ultralytics_package(module: str = "ultralytics", *, purpose: str) -> ModuleType:
    """Import Ultralytics or a module of it, and put back what it replaced elsewhere.

    It puts a function of its own in the place of ``PIL.Image.open``, which installs a package when
    a file is no picture: a damaged picture then ends in an ``ImportError`` instead of the error
    that says so. How numpy prints is changed too.

    Args:
        module: Dotted name.
        purpose: As `seatrial.system.extras.require` has it.

    Raises:
        MissingExtra: It is not installed.
        BrokenExtra: It is installed, and importing it fails.
    """
    kept, printing = Image.open, np.get_printoptions()
    try:
        return require(module, extra="yolo", purpose=purpose)
    finally:
        Image.open = kept
        np.set_printoptions(**printing)
