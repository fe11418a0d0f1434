"""Installed versions, for manifests and reports."""

from __future__ import annotations

import importlib.metadata

# Package -> other packages with the same module.
BUILDS = {
    "onnxruntime": ("onnxruntime-gpu",),
    "ultralytics": ("ultralytics-opencv-headless",),
    "ultralytics-opencv-headless": ("ultralytics",),
}


def versions(*packages: str) -> dict[str, str]:
    """Versions of Seatrial and of some packages; those that are not installed are left out."""
    found = {}
    for package in ("seatrial", *packages):
        for build in (package, *BUILDS.get(package, ())):
            try:
                found[package] = importlib.metadata.version(build)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found
