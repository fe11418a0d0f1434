"""The wheel of the Seatrial that runs."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import zipfile
from pathlib import Path

import pytest

import seatrial
from seatrial.errors import InvalidInput
from seatrial.system.own_wheel import provide_package, write_wheel


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seatrial as installed from an index: no note of a file that it came from."""
    info = tmp_path / "site" / "seatrial-7.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: seatrial\nVersion: 7.1\n")
    monkeypatch.syspath_prepend(info.parent)


def test_it_has_the_package_as_it_is_and_a_record_of_every_file(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "new")
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    package = Path(seatrial.__file__).parent
    assert members["seatrial/cli/main.py"] == (package / "cli" / "main.py").read_bytes()
    assert members["seatrial/documentation/README.md"]
    assert not [name for name in members if "__pycache__" in name or name.endswith(".pth")]
    info = next(name.partition("/")[0] for name in members if ".dist-info/" in name)
    assert {f"{info}/METADATA", f"{info}/WHEEL", f"{info}/entry_points.txt"} <= {*members}
    assert not {f"{info}/direct_url.json", f"{info}/INSTALLER"} & {*members}
    rows = list(csv.reader(io.StringIO(members[f"{info}/RECORD"].decode())))
    assert [row[0] for row in rows] == [*members]
    for name, digest, size in rows[:-1]:
        made = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).decode()
        assert (digest, int(size)) == (f"sha256={made.rstrip('=')}", len(members[name]))


def test_a_project_gets_a_wheel_where_there_is_no_release(tmp_path: Path) -> None:
    wanted = provide_package(tmp_path, "all", "demo")
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wanted == f"./wheels/{wheel.name}[all,demo]"


def test_a_release_is_named_by_its_version(release: None, tmp_path: Path) -> None:
    assert provide_package(tmp_path / "project", "serve") == "seatrial[serve]==7.1"
    assert not (tmp_path / "project").exists()


def test_a_folder_on_the_path_has_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(InvalidInput, match="Seatrial is not installed here"):
        provide_package(tmp_path, "serve")
