"""Installed versions, for manifests and reports."""

from __future__ import annotations

import importlib.metadata


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, for manifests and reports; packages that are absent are left out."""
    found = {}
    for package in ("seatrial", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
