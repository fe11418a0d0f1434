"""Commands on what a service serves: where they are taken, and what their JSON says."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from seatrial.errors import InvalidInput, SeatrialError, did_you_mean
from seatrial.serve.control import LOOPBACK, ControlServer, socket_name
from seatrial.serve.log import say
from seatrial.serve.reload import Coordinator
from seatrial.serve.tokens import Tokens


class Command(NamedTuple):
    """A command.

    Attributes:
        run: Does it, with its JSON.
        keys: All that the JSON may say; another key is a typing error that would be lost.
    """

    run: Callable[[Coordinator, dict[str, Any]], Any]
    keys: tuple[str, ...] = ()


def handle(coordinator: Coordinator, command: str, body: dict[str, Any]) -> Any:
    """The answer to a command.

    Args:
        coordinator: Leads the processes of the service.
        command: Method and path.
        body: Its JSON.

    Raises:
        InvalidInput: There is no such command, or its JSON is another one.
        SeatrialError: From the command.
    """
    known = COMMANDS.get(command)
    if known is None:
        raise InvalidInput(
            f"unknown command {command[:60]!r}", hint=f"known: {', '.join(COMMANDS)}"
        )
    if unknown := [key for key in body if key not in known.keys]:
        listed = f"known keys: {', '.join(known.keys)}" if known.keys else "send {}"
        raise InvalidInput(
            f"unknown key {unknown[0][:60]!r}",
            hint=did_you_mean(unknown[0][:60], known.keys, otherwise=listed),
        )
    return known.run(coordinator, body)


def listen(coordinator: Coordinator, tokens: Tokens | None = None) -> list[ControlServer]:
    """Take commands: of the service's user on a socket, and on the admin port if there is one.

    Args:
        coordinator: Leads the processes of the service.
        tokens: Those of requests, where this process serves them too; None: they are read here.

    Raises:
        PortInUse: The port is taken.
    """
    server, answer = coordinator.server, partial(handle, coordinator)
    servers = [ControlServer(coordinator.folder / socket_name(server), answer)]
    if server.admin_port is not None:
        address = (LOOPBACK, server.admin_port)
        tokens = tokens or Tokens(server, os.environ)
        servers.append(ControlServer(address, answer, partial(tokens.check, "/admin")))
        say("info", "commands", f"commands are taken on http://{LOOPBACK}:{address[1]}")
    return servers


def listen_or_say(coordinator: Coordinator, tokens: Tokens | None = None) -> None:
    """Take commands; where that cannot be, the log says so and the service serves.

    Args:
        coordinator: See `listen`.
        tokens: The same.
    """
    try:
        listen(coordinator, tokens)
    except SeatrialError as error:
        say("error", "reload", error.message)


def _start_canary(coordinator: Coordinator, body: dict[str, Any]) -> dict[str, Any]:
    share, shadow = body.get("share"), _flag(body, "shadow")
    model = _text(body, "model")
    if model is None or isinstance(share, bool) or not isinstance(share, int | float):
        raise InvalidInput("a canary needs model, and share as a number from 0 to 1")
    return coordinator.start_canary(model, float(share), shadow=shadow)


def _flag(body: dict[str, Any], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{key} is not true or false")
    return value


def _text(body: dict[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{key} is not text")
    return value


COMMANDS = {
    "GET /admin/status": Command(lambda lead, body: lead.status()),
    "POST /admin/reload": Command(lambda lead, body: lead.reload(_text(body, "model")), ("model",)),
    "POST /admin/reload/abandon": Command(lambda lead, body: lead.abandon_change()),
    "GET /admin/canary": Command(lambda lead, body: lead.status()),
    "POST /admin/canary": Command(_start_canary, ("model", "share", "shadow")),
    "POST /admin/canary/promote": Command(
        lambda lead, body: lead.promote(force=_flag(body, "force")), ("force",)
    ),
    "POST /admin/canary/abandon": Command(lambda lead, body: lead.abandon()),
}
