"""Commands on what a service serves: where they are taken, and which are understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Server
from seatrial.errors import InvalidInput, NotSwapped
from seatrial.serve.address import free_port
from seatrial.serve.control import ask
from seatrial.serve.reload import Coordinator
from seatrial.serve.reload_commands import COMMANDS, handle, listen
from seatrial.serve.service_folder import write_service

pytestmark = pytest.mark.usefixtures("time_limit")
TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def file(tiny_artifact: Artifact, tmp_path: Path) -> Path:
    """The deployment of a service folder."""
    written = write_service(tmp_path / "service", tiny_artifact, Deployment("tiny", engine="null"))
    return written / "deployment.toml"


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    (made := tmp_path / "supervisor").mkdir()
    return made


@pytest.fixture
def coordinator(file: Path, sockets: Path) -> Coordinator:
    return Coordinator(file, sockets, None)


def at(file: Path, server: Server) -> None:
    file.write_text(msgspec.structs.replace(Deployment.read(file), server=server).to_toml())


def test_the_admin_port_needs_a_token_of_the_service(
    file: Path, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEATRIAL_SERVER_TOKEN", raising=False)
    (tmp_path / "tokens").write_text(TOKEN)
    port = free_port("127.0.0.1")
    at(file, Server(admin_port=port, token_file=str(tmp_path / "tokens")))
    _, admin = listen(Coordinator(file, sockets, None))
    address = ("127.0.0.1", port)
    assert admin._server.server_address == address  # nobody else's machine reaches it
    for command in ("GET /admin/status", "POST /admin/reload"):
        assert ask(address, command)[0] == 401
        assert ask(address, command, token="another" * 4)[0] == 401
    assert ask(address, "GET /admin/status", token=TOKEN)[0] == 200


def test_the_log_names_the_admin_port(
    file: Path, sockets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port("127.0.0.1")
    at(file, Server(admin_port=port))
    listen(Coordinator(file, sockets, None))
    assert capsys.readouterr().err == f"commands are taken on http://127.0.0.1:{port}\n"


@pytest.mark.parametrize(
    ("command", "body", "message"),
    [
        ("POST /admin/canary/promote", {"force": "yes"}, "force is not true or false"),
        ("POST /admin/reload", {"model": 7}, "model is not text"),
        ("POST /admin/reload", {"modle": "x"}, "unknown key 'modle'"),
        ("POST /admin/reload/abandon", {"model": "x"}, "unknown key 'model'"),
        ("POST /admin/canary", {"model": "x"}, "a canary needs model, and share as a number"),
        ("POST /admin/canary", {"model": "x", "share": True}, "share as a number"),
        ("GET /admin/reload", {}, "unknown command 'GET /admin/reload'"),
    ],
)
def test_what_is_not_understood_is_said(
    coordinator: Coordinator, command: str, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        handle(coordinator, command, body)
    if "unknown command" in message:
        assert all(known in caught.value.hint for known in COMMANDS)


def test_commands_reach_the_coordinator(coordinator: Coordinator) -> None:
    told = handle(coordinator, "GET /admin/status", {})
    assert (told["model"], told["processes"], told["canary"]) == ("tiny", [], None)
    for command, message in (
        ("POST /admin/reload/abandon", "no change is under way"),
        ("POST /admin/canary/abandon", "there is no canary"),
        ("POST /admin/canary/promote", "there is no canary"),
    ):
        with pytest.raises(NotSwapped, match=message):
            handle(coordinator, command, {})
