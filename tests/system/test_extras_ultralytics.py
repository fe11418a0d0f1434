"""Ultralytics leaves the packages beside it as they were."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from seatrial.detect.decode import decode
from seatrial.errors import UnsupportedImage


def test_what_is_no_image_is_told_as_without_it(ultralytics: Any) -> None:
    assert Image.open.__module__ == "PIL.Image"
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"no image"))
    with pytest.raises(UnsupportedImage):
        decode(b"no image", max_pixels=100)


def test_numbers_are_printed_as_before(ultralytics: Any) -> None:
    assert np.get_printoptions()["linewidth"] == 75


def test_by_itself_it_does_replace_them(ultralytics: Any) -> None:
    """Once this fails, `import_ultralytics_package` is not needed any more."""
    code = "import PIL.Image, ultralytics; print(PIL.Image.open.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ultralytics.utils.patches", done.stderr
