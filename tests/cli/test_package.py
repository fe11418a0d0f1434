"""``seatrial package triton``: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.cli.package import triton
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.serve.triton.backends import NO_F32


@pytest.fixture
def deployment(tiny_artifact: Artifact, tmp_path: Path) -> Path:
    file = tmp_path / "deployment.toml"
    file.write_text(f'model = "{tiny_artifact.path}"\n[layout]\ninstances = 2\n')
    return file


def test_it_says_what_was_written_and_how_it_is_started(
    deployment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "repository"
    triton(deployment, output=repository)
    said = capsys.readouterr()
    assert [line.split()[1:6:2] for line in said.out.splitlines() if "tiny" in line] == [
        ["tiny", "python", "3"], ["tiny.graph", "openvino", "2"]
    ]  # fmt: skip
    assert NO_F32 in said.err
    assert f"pip install --no-deps -r {repository}/tiny/requirements.txt" in said.err
    assert f"tritonserver --model-repository={repository} --disable-auto" in said.err
    assert "--rate-limit-resource=lane:2" in said.err


def test_json_is_the_summary(deployment: Path, tmp_path: Path, capsysbinary: Any) -> None:
    triton(deployment, output=tmp_path / "repository", backend="python", json=True)
    told = json.loads(capsysbinary.readouterr().out)
    assert told["repository"] == str(tmp_path / "repository")
    assert [one["backend"] for one in told["models"]] == ["python", "python"]
    assert told["requirements"] == "tiny/requirements.txt"
    assert told["notes"] == []


def test_models_are_replaced_with_force_alone(deployment: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    triton(deployment, output=repository)
    with pytest.raises(InvalidInput, match="has a model 'tiny' already"):
        triton(deployment, output=repository)
    triton(deployment, output=repository, force=True)
    with pytest.raises(InvalidConfig, match="does not run the openvino engine"):
        triton(deployment, output=tmp_path / "other", backend="tensorrt")
    assert not (tmp_path / "other").exists()


def test_an_environment_is_part_of_the_configuration(deployment: Path, tmp_path: Path) -> None:
    triton(deployment, output=tmp_path / "repository", environment="/opt/env", backend="python")
    for name in ("tiny", "tiny.graph"):
        text = (tmp_path / "repository" / name / "config.pbtxt").read_text()
        assert 'key: "EXECUTION_ENV_PATH"' in text
        assert 'string_value: "/opt/env"' in text


def test_an_environment_that_is_nowhere_is_refused(
    deployment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "repository"
    with pytest.raises(InvalidInput, match="there is no environment nope") as caught:
        triton(deployment, output=repository, environment="nope")
    assert "absolute path" in caught.value.hint
    assert not repository.exists()
    inside = "$$TRITON_MODEL_DIRECTORY/env.tar.gz"
    triton(deployment, output=repository, environment=inside)
    assert "is not there" not in capsys.readouterr().err
    triton(deployment, output=repository, environment="/opt/no-such-env", force=True)
    said = capsys.readouterr().err
    assert "note: /opt/no-such-env is not there: the machine of the server has to have it" in said
