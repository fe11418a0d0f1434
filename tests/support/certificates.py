"""Certificates for 127.0.0.1, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Made(NamedTuple):
    """A certificate, which is its own authority, and its key."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str, *, password: str = "", days: int = 1) -> Made:
    """A certificate of a day, or of several."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not installed")
    made = Made(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         *(["-passout", f"pass:{password}"] if password else ["-nodes"]),
         "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made
