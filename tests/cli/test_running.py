"""Commands on a service: the one at ``--url`` or one that is started; the same words in all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked_commands import Commands
from packages import skip_without
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.running import check_service
from seatrial.errors import InvalidConfig
from seatrial.serve.address import free_port

CONTRACT = "[latency]\nat_most_ms = 60.0\n"
LINES = (
    "bench --images {images}",
    "judge {contract} --images {images}",
    "evaluate --dataset coco:{images}",
    "demo gradio --port 0",
)


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    slow = (
        "cyclopts",
        "rich.table",
        "cv2",
        "httptools",
        "httpcore",
        "uvloop",
        "seatrial.cli.evaluate",
    )
    with Commands(*slow, "seatrial.bench.run", "seatrial.trial.run") as commands:
        yield commands


@pytest.fixture
def words(scenes: Path, tmp_path: Path) -> dict[str, Path]:
    contract = tmp_path / "lat.toml"
    contract.write_text(CONTRACT)
    return {"images": scenes, "contract": contract}


@pytest.mark.parametrize("line", LINES)
def test_without_a_model_the_hint_has_all_three_ways(
    commands: Commands, line: str, words: dict[str, Path]
) -> None:
    done = commands.run(*line.format(**words).split(), environment=dict(os.environ))
    assert (done.returncode, "error: no model given" in done.stderr) == (2, True), done.stderr
    for option in ("--model NAME", "--deployment FILE", "--url ADDRESS"):
        assert option in done.stderr


@pytest.mark.parametrize("line", LINES)
def test_a_closed_port_is_one_error_in_all_commands(
    commands: Commands, line: str, words: dict[str, Path], tmp_path: Path
) -> None:
    if line.startswith("demo"):
        skip_without("gradio", extra="demo")
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    output = [] if line.startswith(("demo", "evaluate")) else ["-o", tmp_path / "out"]
    done = commands.run(
        *line.format(**words).split(), "--url", url, *output, environment=dict(os.environ)
    )
    assert done.returncode == 6, done.stderr
    assert f"error: nothing answers at {url}: Connection refused\n" in done.stderr
    assert "hint: start a service (seatrial serve --model NAME)" in done.stderr


def test_a_running_service_is_given_no_other_layout() -> None:
    check_service("http://127.0.0.1:3000", DeploymentOptions())
    check_service(None, DeploymentOptions(model="one", wide=True))
    with pytest.raises(InvalidConfig, match="--url measures a running service"):
        check_service("http://127.0.0.1:3000", DeploymentOptions(wide=True))
