"""``seatrial compress int8`` as a person runs it: tables or JSON, and the verdict as exit code.

One test runs a process, which it kills; the others run the command line in this one.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from seatrial.cli.compress import int8
from seatrial.cli.main import main
from seatrial.errors import InvalidArtifact, NotWritable
from seatrial.quantise import measure
from small_detector import OUTLIER, build_small


@pytest.fixture
def words(tmp_path: Path, scene: Path) -> Callable[..., list[str]]:
    """Words of the command on the small detector; see `build_small` for its variants."""

    def make(*options: str, calibration: Path = scene, **variant: Any) -> list[str]:
        onnx.save(build_small(**variant), tmp_path / "small.onnx")
        return [
            "compress", "int8", str(tmp_path / "small.onnx"), "--calibration", str(calibration),
            "--pictures", "6", *options,
        ]  # fmt: skip

    return make


@pytest.fixture
def seatrial(
    words: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs it as a person does, but in this process, which has the imports, and timed briefly."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(measure, "ROUND_S", 0.01)

    def run(*options: str, **variant: Any) -> subprocess.CompletedProcess[str]:
        arguments = words(*options, **variant)
        monkeypatch.setattr(sys, "argv", ["seatrial", *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        code: Any = 0
        try:
            with warnings.catch_warnings():
                # Cyclopts warns when a test lets it read sys.argv.
                warnings.filterwarnings("ignore", "Cyclopts application invoked without tokens")
                main()
        except SystemExit as left:
            code = left.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "home" / "artifacts").iterdir())


def test_a_gate_that_holds_is_exit_code_0_and_stdout_is_json(
    seatrial: Callable[..., subprocess.CompletedProcess[str]], scene: Path, tmp_path: Path
) -> None:
    done = seatrial(
        "--to", "onnxruntime", "--recipe", "minmax", "--dataset", f"coco:{scene}", "--json",
        "--name", "fast",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"]["outcome"] == "holds"
    assert report["engine"] == {"engine": "onnxruntime", "device": "cpu", "precision": "int8"}
    assert [one["recipe"] for one in report["candidates"]] == ["minmax"]
    assert "fast" in names(tmp_path)
    assert "The gate holds" in done.stderr


def test_too_few_images_to_decide_are_exit_code_9_and_the_artifact_is_there(
    seatrial: Callable[..., subprocess.CompletedProcess[str]], scene: Path, tmp_path: Path
) -> None:
    shutil.copytree(scene, tmp_path / "broken")
    (tmp_path / "broken" / "03.jpg").write_bytes(b"no picture")
    done = seatrial("--to", "onnxruntime", "--recipe", "minmax", "--name", "fast",
                    calibration=tmp_path / "broken")  # fmt: skip
    assert done.returncode == 9, done.stderr
    assert "too small to decide" in done.stderr
    assert "skipped: 03.jpg: " in done.stderr
    assert "undecided" in done.stdout
    assert "fast" in names(tmp_path)


def test_a_gate_that_fails_is_exit_code_8_with_a_report_and_nothing_else(
    seatrial: Callable[..., subprocess.CompletedProcess[str]], scene: Path, tmp_path: Path
) -> None:
    done = seatrial(
        "--to", "tensorrt", "--recipe", "minmax", "--dataset", f"coco:{scene}",
        "--most-restored", "0", "--json", "--report", str(tmp_path / "page.html"),
        outlier=OUTLIER,
    )  # fmt: skip
    assert done.returncode == 8
    assert json.loads(done.stdout)["verdict"]["outcome"] == "fails"
    assert "The gate fails" in done.stderr
    page = (tmp_path / "page.html").read_text()
    for words in ("The gate fails", "Conditions", "made by", "processor", "versions"):
        assert words in page, words
    assert len(names(tmp_path)) == 1  # the imported parent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gate=-1",), "--gate"),
        (("--gate", "2"), "half a point of AP is written 0.005"),
        (("--pictures", "0"), "--pictures"),
        (("--recipe", "kl"), "unknown recipe 'kl'"),
    ],
)
def test_options_that_make_no_sense_are_exit_code_2(
    seatrial: Callable[..., subprocess.CompletedProcess[str]],
    options: tuple[str, ...],
    message: str,
) -> None:
    done = seatrial(*options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_that_cannot_be_written_is_reported_before_the_work(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compress(page: Path) -> None:
        int8("no-such-model", calibration=scene, report=page)

    (tmp_path / "file").touch()
    with pytest.raises(NotWritable, match=r"file/page\.html cannot be written") as refusal:
        compress(tmp_path / "file" / "page.html")
    assert refusal.value.hint == "name another file (--report)"
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    with pytest.raises(InvalidArtifact):  # a new folder is made for the page
        compress(tmp_path / "new" / "page.html")


def test_a_killed_run_goes_on_where_it_was(
    words: Callable[..., list[str]],
    seatrial: Callable[..., subprocess.CompletedProcess[str]],
    scene: Path,
    tmp_path: Path,
    time_limit: None,
) -> None:
    options = ("--to", "onnxruntime", "--recipe", "minmax", "--recipe", "percentile",
               "--dataset", f"coco:{scene}", "--gate", "0.05", "--name", "fast")  # fmt: skip
    command = [sys.executable, "-m", "seatrial.cli.main", *words(*options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        for line in first.stderr:  # steps are told when they begin
            if "detecting with percentile" in line:
                first.kill()
                break
    assert first.returncode == -signal.SIGKILL
    done = seatrial(*options)
    assert done.returncode == 0, done.stderr
    assert "detecting with percentile" in done.stderr
    for step in ("finding the extremes", "detecting with the parent", "detecting with minmax"):
        assert step not in done.stderr, step
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["fast"]


def test_progress_is_told_on_stderr(
    seatrial: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = seatrial("--recipe", "fast-bias-correction", "--json")
    assert done.returncode == 9, done.stderr
    json.loads(done.stdout)
    for step in ("checking the calibration images", "quantising", "detecting", "comparing speed"):
        assert step in done.stderr
