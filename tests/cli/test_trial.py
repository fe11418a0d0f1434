"""``seatrial trial`` on the tiny detector: killed, started again, to its verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.bench.run import run_benchmark  # noqa: F401  the extra is needed
from seatrial.cli.trial import trial
from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig
from seatrial.trial.journal import JOURNAL
from seatrial.trial.trial_report import read_trial_report

pytestmark = pytest.mark.slow

# Limits that a busy machine holds as well.
CONTRACT = """\
name = "gate"
[accuracy]
max_drop_ap = 1.0
[server]
rate_per_s = 5.0
at_most_ms = 30000.0
percentile = "p50"
"""
BUDGET_S = 75.0
LAST_WAIT_S = 120.0


@pytest.fixture
def words(tiny_artifact: Artifact, scenes: Path, tmp_path: Path) -> list[str]:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT)
    return [
        sys.executable, "-m", "seatrial.cli.main", "trial", str(contract),
        "--model", str(tiny_artifact.path), "--dataset", f"coco:{scenes}",
        "--budget", f"{BUDGET_S:g}s", "-o", str(tmp_path / "run"), "--json",
    ]  # fmt: skip


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / JOURNAL
    whole = file.read_bytes().rpartition(b"\n")[0] if file.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def test_a_trial_that_is_killed_goes_on_and_keeps_its_budget(
    words: list[str], tmp_path: Path
) -> None:
    environment = {**os.environ, "SEATRIAL_HOME": str(tmp_path / "home")}
    folder = tmp_path / "run"
    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        give_up = time.monotonic() + LAST_WAIT_S
        while not any(line["type"] == "trial" for line in lines(folder)):
            assert first.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < give_up, (tmp_path / "first.log").read_text()
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = lines(folder)
    spent_s = before[-1]["at_s"]
    second = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode in (0, 9), second.stderr
    after = lines(folder)
    assert after[: len(before)] == before
    once = Counter((line["type"], line["key"]) for line in after if line["type"] != "trial")
    assert {kind for (kind, _), count in once.items() if count > 1} <= {"turn"}
    report = read_trial_report(folder / "trial.json")
    assert json.loads(second.stdout)["chosen"] == report.chosen
    # The time of the first run counts. That the budget is kept is tested on a simulated clock: on a
    # busy machine, services of a few seconds start late.
    assert report.elapsed_s > spent_s
    deployment = Deployment.read(folder / "deployment.toml")
    assert deployment.engine in ("openvino", "onnxruntime")
    assert (folder / "trial.html").is_file()
    assert report.times_default is not None
    assert any(row.is_default and row.capacity is not None for row in report.rows)
    assert "gate" in report.contract.name


def test_an_accuracy_that_no_model_has_is_exit_code_8(
    tiny_artifact: Artifact,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twelve copies of the scenes: fewer than six images decide nothing."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    document = json.loads((scenes / "instances.json").read_text())
    more = [{**row, "id": row["id"] + 4} for row in document["images"]]
    for row in more:
        row["file_name"] = f"copy-{row['file_name']}"
        source = scenes / row["file_name"].removeprefix("copy-")
        (scenes / row["file_name"]).write_bytes(source.read_bytes())
    document["images"] += more
    # Boxes where nothing is: half of the objects are not found.
    document["annotations"] += [
        {
            "image_id": row["id"],
            "category_id": document["categories"][0]["id"],
            "bbox": [1, 1, 9, 9],
        }
        for row in more
    ]
    (scenes / "instances.json").write_text(json.dumps(document))
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT.replace("max_drop_ap = 1.0", "ap = 1.0"))
    with pytest.raises(SystemExit) as ended:
        trial(
            contract, model=(str(tiny_artifact.path),), dataset=f"coco:{scenes}",
            output=tmp_path / "run",
        )  # fmt: skip
    told = capsys.readouterr()
    assert ended.value.code == 8, told.err
    assert "accuracy.ap" in told.out
    assert "FAIL: " in told.err
    assert "accuracy: AP " in told.err
    assert not (tmp_path / "run" / "deployment.toml").exists()


def test_what_is_wrong_is_said_before_the_work(tmp_path: Path) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT)
    with pytest.raises(InvalidConfig, match="--budget"):
        trial(contract, model=("tiny",), budget="1 day", output=tmp_path / "run")
