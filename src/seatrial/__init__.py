"""Seatrial: an object detector from weights to a service that is proven before it ships.

    import seatrial

    detector = seatrial.load("yolo11n")
    detections = detector("photo.jpg")
    detections.xyxy, detections.confidence, detections.class_id, detections.labels

Names are imported when they are first used: ``import seatrial`` loads no engine and no NumPy.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seatrial.api.client import AsyncClient as AsyncClient
    from seatrial.api.client import Client as Client
    from seatrial.api.labelled import LabelledDetections as LabelledDetections
    from seatrial.api.loading import LoadedDetector as LoadedDetector
    from seatrial.api.loading import load as load
    from seatrial.api.running import bench as bench
    from seatrial.api.running import evaluate as evaluate
    from seatrial.api.running import export as export
    from seatrial.api.running import judge as judge
    from seatrial.errors import SeatrialError as SeatrialError

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "Client",
    "LabelledDetections",
    "LoadedDetector",
    "SeatrialError",
    "bench",
    "evaluate",
    "export",
    "judge",
    "load",
]
_PLACES = {
    "AsyncClient": "seatrial.api.client",
    "Client": "seatrial.api.client",
    "LabelledDetections": "seatrial.api.labelled",
    "LoadedDetector": "seatrial.api.loading",
    "SeatrialError": "seatrial.errors",
    "bench": "seatrial.api.running",
    "evaluate": "seatrial.api.running",
    "export": "seatrial.api.running",
    "judge": "seatrial.api.running",
    "load": "seatrial.api.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Room(ModuleType):
    """A package that goes by the name of a function: `seatrial.load` is called as well."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    @property
    def _function(self) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:  # for inspect, and editors that ask it
        return importlib.import_module("inspect").signature(self._function)


class _Root(ModuleType):
    """This package. Importing ``seatrial.load.run`` sets its attribute ``load`` to a package."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PLACES and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root
