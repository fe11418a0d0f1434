"""Options and a file become one deployment: an option overrides the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seatrial.cli.deployment import DeploymentOptions
from seatrial.deployment import CoreLayout, Deployment, Server
from seatrial.errors import InvalidArtifact, InvalidConfig


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.toml"
    path.write_text(
        'model = "ssd"\nengine = "onnxruntime"\n[layout]\ninstances = 3\n[server]\nport = 4000\n'
    )
    return path


def test_without_a_model_there_is_no_deployment() -> None:
    with pytest.raises(InvalidConfig, match="no model given") as refusal:
        DeploymentOptions(engine="torch").resolve()
    assert "--model NAME" in refusal.value.hint


def test_a_model_alone_has_the_defaults() -> None:
    assert DeploymentOptions(model="ssd").resolve() == Deployment("ssd")


def test_a_model_that_is_nowhere_is_an_error_that_names_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, here = tmp_path / "app", tmp_path / "here"
    app.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    (app / "d.toml").write_text('model = "models/none.onnx"\n')
    options = DeploymentOptions(deployment=app / "d.toml")
    said = f"models/none.onnx does not exist, neither beside {app / 'd.toml'} nor in {here}"
    with pytest.raises(InvalidArtifact) as refusal:
        options.open(options.resolve())
    assert refusal.value.message == said
    assert refusal.value.hint == f"there is no folder {app / 'models'}"
    (app / "models").mkdir()
    (app / "models" / "nine.onnx").touch()
    with pytest.raises(InvalidArtifact) as refusal:
        options.open(options.resolve())
    assert refusal.value.hint == f"did you mean {app / 'models' / 'nine.onnx'}?"
    with pytest.raises(InvalidArtifact, match=r"^models/other.onnx does not exist$"):
        named = DeploymentOptions(deployment=app / "d.toml", model="models/other.onnx")
        named.open(named.resolve())


def test_a_file_is_taken_as_it_is(file: Path) -> None:
    assert DeploymentOptions(deployment=file).resolve() == Deployment.read(file)


@pytest.mark.parametrize(
    ("option", "value"),
    [("model", "yolo"), ("engine", "torch"), ("device", "cuda"), ("precision", "bf16")],
)
def test_an_option_overrides_the_file(file: Path, option: str, value: Any) -> None:
    found = DeploymentOptions(deployment=file, **{option: value}).resolve()
    assert getattr(found, option) == value
    assert found.layout.instances == 3


@pytest.mark.parametrize(
    ("option", "value"), [("workers", 2), ("instances", 5), ("threads", 4), ("wide", False)]
)
def test_the_layout_is_overridden_value_by_value(file: Path, option: str, value: Any) -> None:
    found = DeploymentOptions(deployment=file, **{option: value}).resolve()
    assert found.layout == CoreLayout(**{"instances": 3, option: value})
    assert found.engine == "onnxruntime"


def test_host_and_port_override_the_file(file: Path) -> None:
    options = DeploymentOptions(deployment=file)
    assert options.resolve(host="0.0.0.0").server == Server("0.0.0.0", 4000)
    assert options.resolve(port=0).server == Server("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "--workers must be a whole number >= 1"),
        ({"threads": 5000}, "--threads must be a whole number <= 1024"),
        ({"precision": "f64"}, "--precision must be f32, bf16 or f16, not 'f64'"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^{said}"):
        DeploymentOptions(model="ssd", **options).resolve()
