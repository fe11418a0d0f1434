"""What is wrong with a trial is said before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.api.trying import find_deployment
from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact, InvalidConfig

SERVER = 'name = "gate"\n[server]\nrate_per_s = 5.0\nat_most_ms = 500.0\npercentile = "p90"\n'


@pytest.fixture
def contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    path = tmp_path / "contract.toml"
    path.write_text(SERVER)
    return path


def test_a_rate_of_0_is_an_error(contract: Path, tmp_path: Path) -> None:
    contract.write_text(SERVER.replace("5.0", "0.0"))
    with pytest.raises(InvalidConfig, match="rate_per_s"):
        find_deployment(contract, ["tiny"], output=tmp_path / "run")


def test_a_contract_without_a_rate_is_an_error(contract: Path, tmp_path: Path) -> None:
    contract.write_text("[accuracy]\nap = 0.3\n")
    with pytest.raises(InvalidConfig, match=r"has no table \[server\]"):
        find_deployment(contract, ["tiny"], output=tmp_path / "run")


@pytest.mark.parametrize("clause", ["ap = 0.3", "max_drop_ap = 0.01"])
def test_accuracy_without_labelled_images_is_an_error(
    contract: Path, tmp_path: Path, image_folder: Path, clause: str
) -> None:
    contract.write_text(f"{SERVER}[accuracy]\n{clause}\n")
    with pytest.raises(InvalidConfig, match="there are no labelled images"):
        find_deployment(contract, ["tiny"], images=image_folder, output=tmp_path / "run")


def test_images_and_models_have_to_be_named(
    contract: Path, tmp_path: Path, image_folder: Path
) -> None:
    with pytest.raises(InvalidConfig, match="there are no images to send"):
        find_deployment(contract, ["tiny"], output=tmp_path / "run")
    with pytest.raises(InvalidConfig, match="no model given"):
        find_deployment(contract, [], images=image_folder, output=tmp_path / "run")
    with pytest.raises(InvalidArtifact, match="no artifact named 'tiny'"):
        find_deployment(contract, ["tiny"], images=image_folder, output=tmp_path / "run")
    with pytest.raises(InvalidConfig, match="--budget"):
        find_deployment(contract, ["tiny"], budget="soon", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pickle_is_read_where_the_trial_is_told_to(
    contract: Path, tmp_path: Path, image_folder: Path
) -> None:
    """The hint is the option of this command, not the way through an export."""
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidArtifact, match="is a pickle") as raised:
        find_deployment(
            contract, [str(tmp_path / "net.pt")], images=image_folder, output=tmp_path / "run"
        )
    assert raised.value.hint == "if you trust where it came from, add --allow-pickle"


def test_a_folder_of_another_trial_is_an_error(
    contract: Path, tmp_path: Path, image_folder: Path, tiny_artifact: Artifact
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trial.jsonl").write_text('{"type":"begun","key":"other"}\n')
    with pytest.raises(InvalidConfig, match="the journal of another trial"):
        find_deployment(
            contract, [str(tiny_artifact.path)], images=image_folder, output=tmp_path / "run"
        )
