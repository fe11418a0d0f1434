"""Certificates for 127.0.0.1, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from seatrial.deployment import Server


class Made(NamedTuple):
    """A certificate, which is its own authority, and its key."""

    certificate: Path
    key: Path


def make_certificate(
    folder: Path, name: str, *, password: str = "", days: int = 1, kind: str = "prime256v1"
) -> Made:
    """A certificate of a day, or of several.

    Args:
        folder: Where its two files are written.
        name: Name of the files, and of who has the certificate.
        password: Of the key.
        days: Until its end.
        kind: Kind of its key: ``rsa``, ``ed25519``, or the name of a curve.
    """
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not installed")
    made = Made(folder / f"{name}.pem", folder / f"{name}.key")
    key = ["-newkey", kind]
    if kind not in ("rsa", "ed25519"):
        key = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{kind}"]
    subprocess.run(
        ["openssl", "req", "-x509", *key,
         "-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         *(["-passout", f"pass:{password}"] if password else ["-nodes"]),
         "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


class Renewable:
    """The certificate of a service, and another one for the same place.

    Args:
        folder: Where the files are made.

    Attributes:
        first: The certificate that the service begins with.
        second: The other one.
        server: The server that shows what is in that place.
    """

    def __init__(self, folder: Path) -> None:
        self.first, self.second = (make_certificate(folder, name) for name in ("one", "two"))
        self._files = Made(folder / "service.pem", folder / "service.key")
        self._put(self.first)
        self.server = Server(
            tls_certificate=str(self._files.certificate), tls_key=str(self._files.key)
        )

    def renew(self) -> None:
        """Put the second one in the place of the first."""
        self._put(self.second)

    def _put(self, made: Made) -> None:
        for file, source in zip(self._files, made, strict=True):
            file.write_bytes(source.read_bytes())
