"""``seatrial judge``: one verdict as exit code, table and JSON; errors before the work."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.bench.options import MeasureOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.judge import judge
from seatrial.errors import InvalidConfig, InvalidDataset, NotWritable
from seatrial.serve.process import ServiceProcess

pytestmark = pytest.mark.slow

QUICK = MeasureOptions(
    point_s=0.3, sessions=(1,), warmup_s=0.0, single_stream_s=20.0, single_stream_requests=12
)
# Memory holds and fails whatever else the machine does.
HOLDS = 'name = "gate"\n[latency]\npercentile = "p50"\nat_most_ms = 60000.0\n[load]\nmemory_mib = 64000.0\n'  # fmt: skip # noqa: E501
FAILS = 'name = "gate"\n[load]\nmemory_mib = 0.5\n'


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.toml"
    path.write_text(HOLDS)
    return path


def test_a_running_service_that_holds_ends_the_command_well(
    service: ServiceProcess,
    image_folder: Path,
    contract: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge(contract, url=service.url, images=image_folder, output=tmp_path / "run", measure=QUICK)
    told = capsys.readouterr()
    assert "memory at most 64000 MiB" in told.out
    assert "gate holds" in told.err
    assert (tmp_path / "run" / "verdict.html").is_file()


def test_a_verdict_that_cannot_be_written_is_printed(
    service: ServiceProcess,
    image_folder: Path,
    contract: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: Any,
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("seatrial.trial.html_report.write_atomically", full)
    output = tmp_path / "run"
    with pytest.raises(NotWritable, match="No space left"):
        judge(
            contract, url=service.url, images=image_folder, output=output, measure=QUICK, json=True
        )
    told = capsysbinary.readouterr()
    assert json.loads(told.out)["verdict"]["outcome"] == "holds"
    assert b"gate holds" in told.err


def test_a_clause_that_fails_is_exit_code_8_and_in_the_json(
    service: ServiceProcess,
    image_folder: Path,
    contract: Path,
    tmp_path: Path,
    capsysbinary: Any,
) -> None:
    contract.write_text(FAILS)
    with pytest.raises(SystemExit) as ended:
        judge(
            contract,
            url=service.url,
            images=image_folder,
            output=tmp_path / "run",
            measure=QUICK,
            json=True,
        )
    assert ended.value.code == 8
    document = json.loads(capsysbinary.readouterr().out)
    assert document == json.loads((tmp_path / "run" / "verdict.json").read_bytes())
    assert (document["schema"], document["verdict"]["outcome"]) == ("seatrial.verdict/1", "fails")


def test_a_model_is_served_for_the_verdict_and_its_lineage_is_known(
    tiny_artifact: Artifact,
    scenes: Path,
    contract: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The artifact lies outside of the store; four images are too few to decide."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    contract.write_text('name = "gate"\n[accuracy]\nap50 = 0.9\n')
    with pytest.raises(SystemExit) as ended:
        judge(
            contract,
            service=DeploymentOptions(model=str(tiny_artifact.path), workers=1),
            dataset=f"coco:{scenes}",
            output=tmp_path / "run",
        )
    assert ended.value.code == 9
    assert "gate cannot be decided" in capsys.readouterr().err
    assert list((tmp_path / "home" / "services").iterdir()) == []


def test_what_is_wrong_is_an_error_before_a_service_starts(
    scenes: Path, contract: Path, tmp_path: Path
) -> None:
    def refused(error: type[Exception], match: str, **changes: Any) -> None:
        options: dict[str, Any] = {
            "url": "http://127.0.0.1:9",
            "images": scenes,
            "output": tmp_path,
        }
        with pytest.raises(error, match=match):
            judge(contract, **{**options, **changes})  # type: ignore[arg-type]

    refused(InvalidConfig, "no images to send", images=None)
    refused(InvalidConfig, "sessions must be rising", measure=MeasureOptions(sessions=(2, 1)))
    refused(InvalidConfig, "--url measures a running service", service=DeploymentOptions(model="m"))
    refused(InvalidDataset, "does not exist", dataset="coco:none")
    refused(InvalidConfig, "no model given", url=None)
    (tmp_path / "file").write_text("")
    refused(NotWritable, "cannot be written", output=tmp_path / "file" / "deep")
    contract.write_text('name = "gate"\n[accuracy]\nap = 0.5\n')
    refused(InvalidConfig, "judges accuracy, and there are no labelled images")
    contract.write_text('name = "gate"\n')
    refused(InvalidConfig, "sets no condition")
