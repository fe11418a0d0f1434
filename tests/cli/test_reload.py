"""``seatrial reload`` and ``seatrial canary``: the guide, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from documents import Reader
from seatrial import rehearsal
from seatrial.artifact import Artifact
from seatrial.cli.admin import ServiceOptions
from seatrial.cli.reload import promote, rehearse, reload, start, status
from seatrial.errors import InvalidConfig, NotSwapped, ServiceFailed
from seatrial.serve.address import free_port
from seatrial.serve.control import ControlServer

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "swap-a-model.md"
# What several commands import.
IMPORTED = (
    "cyclopts", "rich.table", "cv2", "onnxruntime", "bentoml", "seatrial.cli.main",
    "seatrial.cli.reload", "seatrial.cli.serve", "seatrial.serve.startup",
)  # fmt: skip


@pytest.mark.slow
def test_the_guide(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    for path in (home, folder):
        path.mkdir()
    dimmed_artifact(tiny_model, home, 1.0, "plates-1")
    dimmed_artifact(tiny_model, home, 0.8, "plates-2")
    (home / "store").rename(home / "artifacts")
    port = free_port("127.0.0.1")
    changes = {
        "port = 3000": f"port = {port}",
        # Processes of their own start faster where there are few.
        "seatrial serve ": "seatrial serve --engine onnxruntime --workers 1 --instances 1 ",
    }
    environment = {"SEATRIAL_HOME": str(home), "TMPDIR": str(tmp_path)}
    reader = Reader(folder, changes, {"seatrial serve": port}, environment)
    with reader.forking(*IMPORTED):
        printed = reader.follow(GUIDE)
    assert not reader.left
    assert "plates-2 is served in place of plates-1 (tried on 4 images" in printed[1]
    assert "plates-1" in printed[2]
    assert "a canary with 5.0%" in printed[2]
    assert printed[2].rstrip().endswith("no canary")
    found = json.loads(printed[3][printed[3].index("{") : printed[3].rindex("}") + 1])
    assert found["model"] == "plates-1"
    assert (found["canary"]["model"], found["canary"]["shadow"]) == ("plates-2", True)
    assert printed[3].rstrip().endswith("no canary")


def test_no_service_and_no_share_say_what_to_do() -> None:
    port = free_port("127.0.0.1")
    with pytest.raises(ServiceFailed, match=f"no service takes commands at port {port}"):
        reload(service=ServiceOptions(port=port))
    with pytest.raises(ServiceFailed, match=f"at http://127.0.0.1:{port}"):
        reload(service=ServiceOptions(url=f"http://127.0.0.1:{port}"))
    with pytest.raises(InvalidConfig, match="one of --share and --shadow"):
        start("plates")
    for wrong in ("0%", "101%", "five", "-0.1"):
        with pytest.raises(InvalidConfig, match="is not a share"):
            start("plates", share=wrong)
    for wrong in ("1", "1.0", "5"):  # a hundredth, or all?
        with pytest.raises(InvalidConfig, match=f"the share {wrong} has no unit") as caught:
            start("plates", share=wrong)
        assert caught.value.hint.startswith(f"write {wrong}%, or a fraction below 1")
    with pytest.raises(
        InvalidConfig, match=r"the model comes first.* deployment\.toml is not a model"
    ) as order:
        start("deployment.toml", Path("plates-2"), share="5%")
    assert order.value.hint == "seatrial canary start plates-2 deployment.toml"


def answering(told: dict[str, Any]) -> tuple[ServiceOptions, list[tuple[str, dict[str, Any]]]]:
    """A service that answers each command so, and the commands that come."""
    asked: list[tuple[str, dict[str, Any]]] = []
    port = free_port("127.0.0.1")

    def answer(command: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append((command, body))
        return told

    ControlServer(("127.0.0.1", port), answer)
    return ServiceOptions(url=f"http://127.0.0.1:{port}"), asked


def test_the_table_of_a_canary_has_what_is_known_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    canary = {
        "model": "b", "digest": "d", "share": 0.05, "shadow": False, "failure": "",
        "requests": {"live_answered": 20, "live_failed": 0, "canary_answered": 1},
        "seconds": {"live": 0.1, "canary": 0.0072}, "agreement": None,
        "images": {"compared": 0}, "boxes": {"matched": 0},
    }  # fmt: skip
    service, asked = answering({"processes": [], "canary": canary})
    status(service=service)
    printed = capsys.readouterr().out
    assert "b (d): a canary with 5.0% of the requests\n" in printed
    assert "mean latency: 5 ms live, 7.2 ms canary\n" in printed
    assert "boxes" not in printed
    assert "images" not in printed
    canary |= {"shadow": True, "share": 1.0}
    status(service=service)
    printed = capsys.readouterr().out
    assert "a shadow of 100% of the images\n" in printed
    assert "images: 0 compared\nboxes: 0 matched\n" in printed
    promote(service=service)
    promote(service=service, force=True)
    assert asked[2:] == [
        ("POST /admin/canary/promote", {}),
        ("POST /admin/canary/promote", {"force": True}),
    ]


def test_a_model_that_is_not_there_has_the_code_of_a_reload(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    monkeypatch.setattr(rehearsal, "give_way", lambda: None)  # this process goes on
    with pytest.raises(NotSwapped, match="nope") as caught:
        rehearse(str(tiny_artifact.path), "nope")
    assert caught.value.exit_code == 8
