"""Optional packages: absent, broken, or there."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from seatrial.errors import BrokenExtra, MissingExtra
from seatrial.system.extras import inner_failure, install_command, missing_package, require


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for packages of a test's own."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_package_that_is_there() -> None:
    assert require("numpy", extra="all", purpose="this test") is numpy
    assert require("numpy.linalg", extra="all", purpose="this test") is numpy.linalg


@pytest.mark.parametrize("module", ["no_such_package_of_ours", "no_such_package_of_ours.inner"])
def test_a_package_that_is_absent_names_the_extra(module: str) -> None:
    with pytest.raises(MissingExtra) as refusal:
        require(module, extra="yolo", purpose="pulling yolo11n")
    assert type(refusal.value) is MissingExtra
    assert refusal.value.message == (
        "no_such_package_of_ours is not installed; it is needed for pulling yolo11n"
    )
    assert refusal.value.hint == install_command("yolo")


DISTRIBUTION = """Metadata-Version: 2.4
Name: seatrial
Version: 1.0
Requires-Dist: pillow>=11
Requires-Dist: bentoml==1.4.39; extra == 'serve'
Requires-Dist: starlette>=0.45; extra == "serve"
Requires-Dist: Py_YAML>=6; extra == 'data'
Requires-Dist: bentoml==1.4.39; extra == 'all'
Requires-Dist: starlette>=0.45; extra == 'all'
Requires-Dist: py-yaml>=6; extra == 'all'
"""


@pytest.fixture
def installed(package: Path) -> Callable[[str], None]:
    """Makes a distribution of our name, with what pip notes of its origin."""

    def install(origin: str) -> None:
        info = package / "seatrial-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(DISTRIBUTION)
        if origin:
            (info / "direct_url.json").write_text(origin)
        importlib.invalidate_caches()

    return install


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ("", "pip install 'seatrial[serve]'"),
        ('{"url": "https://somewhere/seatrial.whl"}', "pip install 'seatrial[serve]'"),
        ('{"url": "file://HERE/a%20wheel.whl"}', "pip install 'HERE/a wheel.whl[serve]'"),
        ('{"url": "file://HERE", "dir_info": {}}', "pip install 'HERE[serve]'"),
        (
            '{"url": "file://HERE", "dir_info": {"editable": true}}',
            "pip install -e 'HERE[serve]'",
        ),
        ('{"url": "file://HERE/gone"}', "pip install 'bentoml==1.4.39' 'starlette>=0.45'"),
    ],
)
def test_an_extra_is_installed_from_where_seatrial_came_from(
    installed: Callable[[str], None], tmp_path: Path, origin: str, command: str
) -> None:
    (tmp_path / "a wheel.whl").touch()
    installed(origin.replace("HERE", str(tmp_path)))
    assert install_command("serve") == command.replace("HERE", str(tmp_path))


def test_a_package_that_an_import_does_not_find_names_the_smallest_extra(
    installed: Callable[[str], None],
) -> None:
    installed("")

    def hint(module: str) -> str:
        found = missing_package(ModuleNotFoundError(name=module))
        assert found is not None
        return found.hint

    assert hint("starlette.types") == "pip install 'seatrial[serve]'"
    assert hint("py_yaml") == "pip install 'seatrial[data]'"
    assert hint("PIL") == "pip install --force-reinstall pillow"  # it is no extra's
    assert hint("anyio") == "pip install --force-reinstall anyio"
    assert missing_package(ModuleNotFoundError(name="seatrial.gone")) is None
    assert missing_package(ModuleNotFoundError("made by hand")) is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise OSError('libcudart.so.13: cannot open')", "OSError: libcudart.so.13"),
        ("import no_such_dependency_of_it", "no_such_dependency_of_it"),
        ("import sys; sys.no_such_attribute", "AttributeError"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_package_that_is_broken_is_not_called_absent(
    package: Path, source: str, said: str
) -> None:
    name = f"broken_{abs(hash(source))}"
    (package / f"{name}.py").write_text(source)
    with pytest.raises(BrokenExtra, match="installed but does not import") as refusal:
        require(name, extra="openvino", purpose="this test")
    assert said in refusal.value.message
    assert "--force-reinstall" in refusal.value.hint
    assert name not in sys.modules


def test_a_part_that_an_old_version_lacks_is_broken_not_absent() -> None:
    with pytest.raises(BrokenExtra, match=r"numpy\.no_such_part"):
        require("numpy.no_such_part", extra="all", purpose="this test")


def test_what_a_part_of_a_package_failed_of_is_told_by_its_first_cause() -> None:
    def fail(hidden: Exception, shown: Exception) -> Exception:
        shown.__cause__ = hidden  # as ``raise shown from hidden`` leaves it
        return shown

    missing = RuntimeError("operator torchvision::nms does not exist")
    shown = fail(missing, ModuleNotFoundError("could not import 'DetrForObjectDetection'"))
    found = inner_failure(shown, package="transformers", extra="transformers")
    assert found is not None
    assert "operator torchvision::nms does not exist" in found.message
    assert found.hint == f"{install_command('transformers', '--force-reinstall')} torchvision"
    other = fail(KeyError("weights"), ValueError("no such model"))
    assert inner_failure(other, package="transformers", extra="transformers") is None


def test_openvino_reports_nothing(tmp_path: Path) -> None:
    """It reports to Google Analytics as it is imported, and keeps an identity for that."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    code = (
        "import sys\n"
        "from seatrial.system.extras import inner_failure, require\n"
        "require('openvino', extra='openvino', purpose='this test')\n"
        "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry.')))"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert list(tmp_path.glob("intel*")) == []


def test_onnxruntime_reports_nothing(tmp_path: Path, model_file: Callable[..., Path]) -> None:
    """Its reporter keeps an identity in the folder for temporary files."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    code = (
        "import sys\n"
        "from seatrial.system.extras import inner_failure, require\n"
        "ort = require('onnxruntime', extra='onnxruntime', purpose='this test')\n"
        "ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    )
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", code, str(model_file())]
    subprocess.run(command, env=environment, check=True)
    assert list((tmp_path / "tmp").iterdir()) == []
