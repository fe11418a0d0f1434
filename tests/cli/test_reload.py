"""``seatrial reload`` and ``seatrial canary``: the guide, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from documents import Reader
from seatrial.cli.admin import ServiceOptions
from seatrial.cli.reload import reload, start
from seatrial.errors import InvalidConfig, ServiceFailed
from seatrial.serve.address import free_port

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
    assert "a canary with 0.05" in printed[2]
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
