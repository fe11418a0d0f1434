"""Packages that take long to import, as fixtures that skip where they are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import torchvision_operators
from seatrial.errors import MissingExtra
from seatrial.system.extras import import_ultralytics_package


@pytest.fixture(scope="session")
def torch() -> Any:
    """The package, on one thread: its threads wait for each other, which a busy machine makes long.

    Skips where it is not installed.
    """
    package = pytest.importorskip("torch", reason="seatrial[torch] is not installed")
    package.set_num_threads(1)
    return package


@pytest.fixture(scope="session")
def transformers(torch: Any) -> Any:
    """The package; skips where it or torch is not installed."""
    torchvision_operators.provide()
    return pytest.importorskip("transformers", reason="seatrial[transformers] is not installed")


@pytest.fixture(scope="session")
def ultralytics(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, which asks no host for anything; skips where it or torch is not installed."""
    torchvision_operators.provide()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        try:
            yield import_ultralytics_package(purpose="this test")
        except MissingExtra as error:
            pytest.skip(error.message)
