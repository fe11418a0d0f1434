"""Installed versions, for manifests and reports."""

from __future__ import annotations

import importlib.metadata


def versions(*packages: str) -> dict[str, str]:
    """Versions of Seatrial and of some packages; those that are not installed are left out."""
    found = {}
    for package in ("seatrial", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
