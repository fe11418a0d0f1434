"""Fresh virtual environments with the wheel of this source, made by uv."""

from __future__ import annotations

import csv
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import httpx
import pytest

import local_http
import torchvision_operators

ROOT = Path(__file__).resolve().parents[2]
# The tests' own environment first: its programs are found without activating it.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Of the tests' environment, nothing that changes what is imported in another one.
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
}
TIME_LIMIT_S = 600.0
CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NO_SERVICE = "http://127.0.0.1:9"  # the port "discard", where nothing listens


def uv(*words: str | Path) -> str:
    """Run ``uv WORDS``; returns what it printed on standard error.

    Skips the test where there is no uv or no package index.
    """
    program = shutil.which("uv", path=PATH)
    if program is None:
        pytest.skip("uv is not installed: seatrial[test]")
    # uv does not read pip's settings.
    links = os.environ.get("PIP_FIND_LINKS")
    done = subprocess.run(
        [program, *map(str, words)],
        cwd=ROOT,
        env={
            **({"UV_FIND_LINKS": links} if links else {}),
            **ENVIRONMENT,
            "UV_PYTHON_DOWNLOADS": "never",
        },
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    if done.returncode and "Failed to fetch" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, f"uv {' '.join(map(str, words))}\n{done.stderr}"
    return done.stderr


@functools.cache
def interpreter(version: str) -> Path:
    """A Python of this version, such as ``3.12``; skips the test where there is none."""
    name = f"python{version}"
    found = [shutil.which(name)]
    if pyenv := shutil.which("pyenv"):  # its own python3.12 works only for chosen versions
        releases = _printed(pyenv, "whence", name).split()
        found += [f"{_printed(pyenv, 'prefix', one).strip()}/bin/{name}" for one in releases]
    for program in filter(None, found):
        if said := _printed(program, "-c", "import sys; print(sys.executable)").strip():
            return Path(said)
    pytest.skip(f"no Python {version} here")


def _printed(*words: str) -> str:
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=60)
    return "" if done.returncode else done.stdout


def build_wheel(folder: Path) -> Path:
    """The wheel of this source, written to a folder."""
    uv("build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(folder: Path, *requirements: str, python: Path | None = None) -> Path:
    """Make a virtual environment with some requirements, and give its interpreter.

    Args:
        folder: New folder.
        requirements: Requirements and options, as ``uv pip install`` takes them.
        python: Its Python; default: that of the tests.
    """
    uv("venv", "--quiet", "--python", python or sys.executable, folder)
    own = folder / "bin" / "python"
    install_into(own, *requirements)
    return own


def install_into(python: Path, *requirements: str | Path) -> None:
    """Install requirements into the environment of a Python."""
    uv("pip", "install", "--quiet", "--python", python, *requirements)


def share_bytecode(python: Path, pool: Path) -> None:
    """Keep an environment's compiled modules in a folder that others of the same versions share.

    uv compiles nothing: else each environment compiles anew what it imports. Python takes bytecode
    only for a source of the time and size that it was compiled from, and a file that uv links into
    several environments has one time.
    """
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    _take_over_bytecode(packages, pool)
    for folder, _, files in os.walk(packages):
        if any(name.endswith(".py") for name in files):
            kept = pool / Path(folder).relative_to(packages)
            kept.mkdir(parents=True, exist_ok=True)
            Path(folder, "__pycache__").symlink_to(kept)


def _take_over_bytecode(packages: Path, pool: Path) -> None:
    """Give a pool what the tests' own environment has compiled of the very same sources.

    Half a minute of a core for all extras. What names the source in the bytecode is its time.
    """
    own = Path(sysconfig.get_path("purelib"))
    for record in packages.glob("*.dist-info/RECORD"):
        ours = own / record.relative_to(packages)
        if ours.is_file():
            for source in _sources(record) & _sources(ours):
                _take_over(packages / source[0], own / source[0], (pool / source[0]).parent)


def _sources(record: Path) -> set[tuple[str, ...]]:
    """Name, digest and size of the modules that a package lists."""
    with record.open(newline="") as rows:
        return {tuple(row) for row in csv.reader(rows) if row[0].endswith(".py") and row[1]}


def _take_over(source: Path, ours: Path, kept: Path) -> None:
    compiled = Path(importlib.util.cache_from_source(str(ours)))
    if (kept / compiled.name).exists() or not compiled.is_file():
        return
    data = compiled.read_bytes()
    if data[4:8] == bytes(4):  # else it names its source by a digest
        time = int(source.stat().st_mtime) & 0xFFFFFFFF
        kept.mkdir(parents=True, exist_ok=True)
        (kept / compiled.name).write_bytes(data[:8] + time.to_bytes(4, "little") + data[12:])


def resolve(*requirements: str) -> str:
    """What ``uv pip install`` would install, without an environment; a line each."""
    return uv("pip", "install", "--dry-run", "--target", "/nonexistent", *requirements)


def variables(python: Path, work: Path, hub: str) -> dict[str, str]:
    """Environment of commands that reach nothing but a hub of ours."""
    kept = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("PIP_")}
    return {
        **kept,
        "PATH": f"{python.parent}:{kept['PATH']}",
        "PYTHONPATH": ":".join(torchvision_operators.for_children()),
        "SEATRIAL_HOME": str(work / "home"),
        "HF_ENDPOINT": hub,
        "HF_HOME": str(work / "hf"),
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(work),
        "NO_COLOR": "1",
    }


@functools.cache
def brings_cuda(extra: str) -> bool:
    """Whether the index would give a build of torch that brings CUDA's libraries."""
    wanted = [one for one in EXTRAS[extra] if not one.startswith("seatrial[")]
    return bool(re.search(r"nvidia-c(uda|ublas|udnn)", resolve(*CONSTRAINTS, *wanted)))


def answers(url: str) -> bool:
    try:
        return local_http.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
