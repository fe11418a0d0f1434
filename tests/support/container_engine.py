"""A container engine of a test's own, and an image that is made of files of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0


class Engine:
    """A daemon with a folder of its own.

    Attributes:
        environment: Variables with which its client finds it.
    """

    def __init__(self, socket: Path) -> None:
        self.environment = {"DOCKER_HOST": f"unix://{socket}"}

    def run(self, *words: str | Path, **options: Any) -> str:
        """What its client prints."""
        done = subprocess.run(
            ["docker", *map(str, words)], env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, check=True, timeout=600, **options,
        )  # fmt: skip
        return done.stdout.decode()

    def containers(self) -> list[str]:
        """Ids of all containers, those that have ended too."""
        return self.run("ps", "--all", "--quiet").split()


@contextlib.contextmanager
def container_engine(folder: Path) -> Iterator[Engine]:
    """Start a daemon, and end it; skips the test where it cannot be had."""
    missing = [name for name in ("dockerd", "docker") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and docker.io: {', '.join(missing) or 'not root'}")
    # The path of a socket may have 107 characters.
    socket, log = Path(f"/run/seatrial-{os.getpid()}.sock"), folder / "log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [
                "dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
                "--pidfile", folder / "pid", "-H", f"unix://{socket}",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
    engine = Engine(socket)
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not _answers(engine):
            if daemon.poll() is not None or time.monotonic() > give_up:
                pytest.skip(f"the container engine does not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)
        socket.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(engine: Engine) -> bool:
    try:
        engine.run("info", stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        return False
    return True


def make_image(
    engine: Engine,
    tag: str,
    *,
    files: Iterable[Path],
    placed: Mapping[str, Path],
    environment: Mapping[str, str],
    libraries: Iterable[str] = (),
) -> None:
    """Make an image of files, and of the libraries that they are linked with.

    Args:
        engine: Takes the image.
        tag: Its name.
        files: Files and folders that lie in it where they lie here.
        placed: Path in the image -> file or folder here.
        environment: Variables of its containers.
        libraries: Folders in which libraries are looked for first.
    """
    found: dict[str, Path] = dict(placed) | {str(one): one for one in files}
    search = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    for library in sorted(_linked(found.values(), search)):
        found.setdefault(library, Path(library))
    changes = [f"ENV {name}={value}" for name, value in environment.items()]
    words = [word for one in changes for word in ("--change", one)]
    with subprocess.Popen(
        ["docker", "import", *words, "-", tag], env={**os.environ, **engine.environment},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as importing:  # fmt: skip
        written: set[str] = set()

        def once(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            """Leave out what is there already, and what Python makes of itself."""
            if entry.name in written or "__pycache__" in entry.name:
                return None
            written.add(entry.name)
            return entry

        with tarfile.open(fileobj=importing.stdin, mode="w|") as archive:
            for name in ("tmp", "proc", "dev", "sys", "root"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                archive.addfile(entry)
            for path, source in found.items():
                # A library by the name that it is linked with, whatever that leads to.
                whole = source if source.is_dir() else source.resolve()
                archive.add(whole, path.lstrip("/"), filter=once)
        assert importing.stdin is not None
        importing.stdin.close()
        assert importing.wait(300) == 0


def _linked(places: Iterable[Path], environment: Mapping[str, str]) -> set[str]:
    """Paths of the libraries that programs and libraries in some places are linked with."""
    binaries = [
        str(file)
        for place in places
        for file in (place.rglob("*") if place.is_dir() else (place,))
        if file.is_file() and _is_elf(file)
    ]
    told = subprocess.run(
        ["ldd", *binaries], env=dict(environment), capture_output=True, text=True, check=False
    ).stdout
    found = set()
    for line in told.splitlines():
        name, _, path = line.strip().partition(" => ")
        library = (path or name).partition(" (")[0]
        if library.startswith("/") and not library.endswith(":"):
            found.add(os.path.normpath(library))
    return found


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"
