"""NVIDIA's perf_analyzer, as its wheel has it; through a newer C library on older systems."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from fresh_environments import uv

GLIBC = (2, 38)  # that the wheel is built for
LIBRARIES = ("libc6", "libstdc++6", "libgcc-s1")


def perf_analyzer(folder: Path) -> list[str]:
    """The words that start it; skips the test where it cannot be had.

    Args:
        folder: Takes the wheel and what belongs to it.
    """
    if platform.machine() != "x86_64":
        pytest.skip("perf_analyzer's wheel is for x86_64")
    try:
        uv(
            "pip", "install", "--quiet", "--no-deps", "--target", folder / "wheel",
            "--python-platform", "x86_64-manylinux_2_39", "perf-analyzer>=2.60",
        )  # fmt: skip
    except AssertionError as error:
        pytest.skip(f"perf_analyzer's wheel cannot be installed: {error}")
    program = folder / "wheel" / "perf_analyzer" / "bin" / "perf_analyzer"
    program.chmod(0o755)
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(map(int, version.split("."))) >= GLIBC:
        return [str(program)]
    root = newer_libraries(folder)
    libraries = f"{root}/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu"
    (loader,) = root.glob("usr/lib64/ld-linux-x86-64.so.2")
    return [str(loader), "--library-path", libraries, str(program)]


def newer_libraries(folder: Path) -> Path:
    """The C library of Debian's newest release, unpacked; skips the test where it cannot be had."""
    why = f"glibc is older than {GLIBC[0]}.{GLIBC[1]}, and"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"{why} there is no apt-get")
    places = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    mirrors = [place for place in places if place.rstrip("/").endswith("/debian")]
    if not mirrors:
        pytest.skip(f"{why} apt-get knows no mirror of Debian")
    lists, cache, sources = folder / "lists", folder / "cache", folder / "sources.list"
    for made in (lists / "partial", cache / "archives" / "partial"):
        made.mkdir(parents=True)
    sources.write_text(f"deb {mirrors[0]} stable main\n")
    # A configuration of its own: that of the system stays as it is.
    settings = {
        "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "-", "Dir::State::lists": lists,
        "Dir::Cache": cache, "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    for words in (["update"], ["download", *LIBRARIES]):
        done = subprocess.run(
            ["apt-get", "-qq", *options, *words], cwd=folder, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"{why} a newer one cannot be downloaded: {done.stderr.strip()[-300:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return folder / "root"
