"""What a call names as its service, before anything starts; `test_running` starts services."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from seatrial.api.services import NamedService, credentials_for
from seatrial.artifact import Artifact
from seatrial.client.credentials import NONE, Credentials
from seatrial.deployment import Deployment
from seatrial.errors import InvalidArtifact, InvalidConfig, InvalidInput


def described(**named: Any) -> Deployment:
    given = {"model": None, "deployment": None, "url": None, "on": None, "options": {}}
    found = NamedService(**{**given, **named}).deployment
    assert found is not None
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.toml"
    path.write_text(
        'model = "models/tiny.onnx"\nengine = "torch"\n[layout]\nworkers = 2\n'
        '[server]\nruntime = "uvicorn"\n'
    )
    return path


def test_a_file_is_taken_and_what_is_given_overrides_it(file: Path) -> None:
    assert described(deployment=file) == Deployment.read(file)
    found = described(
        deployment=str(file), model="other", on="triton",
        options={"engine": "null", "threads": 2, "triton_python": "bin/python"},
    )  # fmt: skip
    assert (found.model, found.engine, found.server.runtime) == ("other", "null", "triton")
    assert (found.layout.workers, found.layout.threads) == (2, 2)
    assert found.triton.python == str(Path("bin/python").absolute())


def test_a_model_alone_is_one_process(tiny_artifact: Artifact) -> None:
    found = described(
        model=tiny_artifact.path, on="uvicorn", options={"wide": False, "triton_image": "x"}
    )
    assert (found.layout.workers, found.layout.wide) == (1, False)
    assert (found.server.runtime, found.triton.image) == ("uvicorn", "x")


def test_a_model_that_is_nowhere_is_an_error_that_names_both_places(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    service = NamedService(None, file, None, None, {})
    with pytest.raises(InvalidArtifact, match=f"neither beside {file} nor in {here}"):
        service.open()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({}, "give a model or the address"),
        ({"model": "m", "url": "http://x"}, "give a model or the address"),
        ({"deployment": "d", "url": "http://x"}, "give a model or the address"),
        ({"url": "http://x", "on": "triton"}, "takes no other on"),
        ({"url": "http://x", "options": {"triton_python": sys.executable}}, "no other triton_pyth"),
        ({"model": "m", "options": {"enginee": "null"}}, "unknown key 'enginee'"),
        ({"model": "m", "on": "apache"}, "runtime"),
    ],
)
def test_what_does_not_go_together_is_an_error(named: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        described(**named)


def test_what_is_no_name_and_no_path_is_an_error(file: Path) -> None:
    with pytest.raises(InvalidInput, match="int is not a model"):
        described(model=5)
    with pytest.raises(InvalidInput, match="dict is not a model"):
        described(model={}, deployment=file)
    for model in (None, "m"):
        with pytest.raises(InvalidConfig, match="int is not a deployment file"):
            described(model=model, deployment=5)


def test_an_unknown_option_beside_a_file_is_an_error(file: Path) -> None:
    with pytest.raises(InvalidConfig, match="unknown key 'enginee'"):
        described(deployment=file, options={"enginee": "null"})


def test_credentials_are_for_an_address() -> None:
    assert credentials_for("http://x", "secret", "own.pem") == Credentials("secret", "own.pem")
    assert credentials_for(None, None, None) is NONE
    for token, ca_file in (("secret", None), (None, "own.pem")):
        with pytest.raises(InvalidConfig, match="for the address of a running service"):
            credentials_for(None, token, ca_file)
