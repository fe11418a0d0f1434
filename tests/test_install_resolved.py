"""What would be installed: by the pages' commands, with the pinned versions, beside each other."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from fresh_environments import (
    CONSTRAINTS,
    EXTRAS,
    ROOT,
    brings_cuda,
    resolve,
)
from seatrial.system.own_wheel import write_wheel

pytestmark = pytest.mark.slow


def test_the_pages_install_what_they_need() -> None:
    """README and tutorial, in the folder of this repository."""
    pages = [ROOT / "README.md", ROOT / "docs" / "tutorial" / "README.md"]
    found = {
        line
        for page in pages
        for line in re.findall(r"pip install '(\.\[[\w,-]+\])'", page.read_text())
    }
    assert found == {".[all,demo]", ".[all,train,demo]"}
    for line in found:
        assert re.search(r"^ \+ seatrial\b", resolve(*CONSTRAINTS, line), re.M)


def test_pinned_versions_are_those_that_their_command_installs(wheel: Path) -> None:
    text = (ROOT / "constraints.txt").read_text()
    (extras,) = re.findall(r"^# .*scripts/environment FOLDER ([\w,]+)", text, re.M)
    if brings_cuda("torch"):
        pytest.skip("this index has another build of torch, with other packages")
    installed = re.findall(r"^ \+ ([\w.-]+)==", resolve(*CONSTRAINTS, f"{wheel}[{extras}]"), re.M)
    # One is installed by a line of its own; pip does not freeze itself and setuptools.
    wanted = {*installed, "ultralytics-opencv-headless"} - {"seatrial", "setuptools", "pip"}
    pinned = re.findall(r"^([\w.-]+)==", text, re.M)
    assert {*map(normalised, pinned)} ^ {*map(normalised, wanted)} == set()


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_wheel_of_ours_has_what_a_build_has(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_wheel(tmp_path)) as ours, zipfile.ZipFile(wheel) as built:
        assert {*ours.namelist()} == {*built.namelist()}


def test_two_builds_of_opencv_do_not_meet(wheel: Path) -> None:
    """No extra brings a second package with the module cv2."""
    extras = ",".join(extra for extra in EXTRAS if "gpu" not in extra)
    found = resolve(*CONSTRAINTS, f"{wheel}[{extras}]")
    assert re.findall(r"^ \+ (opencv[\w-]*)==", found, re.M) == ["opencv-python-headless"]
