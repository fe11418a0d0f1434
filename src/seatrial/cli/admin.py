"""Commands to a running service: where it takes them, and what its answers say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from seatrial.artifact import MANIFEST
from seatrial.cli.console import err
from seatrial.cli.credentials import TOKEN, CredentialOptions
from seatrial.config import Fraction
from seatrial.deployment import Deployment, Server, server_of
from seatrial.errors import InvalidConfig, SeatrialError, ServiceFailed, Unauthorized

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
COMMAND_S = 3600.0  # longest wait for an answer: a model may be tried on a whole dataset
NO_ADMIN_PORT = (404, 405)
# Commands whose model is tried and loaded first, which the service notices to be given up.
TRIED_FIRST = ("POST /admin/reload", "POST /admin/canary")
GIVEN_UP = (
    "the service drops the change unless it is switching already; "
    "seatrial canary status shows what it serves"
)


class _Before(msgspec.Struct, frozen=True):
    """The model that a service had before."""

    model: str


class _Agreed(msgspec.Struct, frozen=True):
    """Share of the boxes that both models see."""

    share: Fraction


class _Compared(msgspec.Struct, frozen=True):
    """Boxes of both models; None where neither has any."""

    agreement: _Agreed | None


class _Tried(msgspec.Struct, frozen=True):
    """Findings on a model before it was served."""

    images: Count
    comparison: _Compared


class ReloadAnswer(msgspec.Struct, frozen=True):
    """Answer to ``POST /admin/reload``, as far as it is shown.

    Attributes:
        result: Whether another model is served now.
        model: Name of what is served.
        before: What was served before; there where there is another model.
        rehearsal: How it was tried; the same.
    """

    result: Literal["swapped", "unchanged"]
    model: str
    before: _Before | None = None
    rehearsal: _Tried | None = None

    def __post_init__(self) -> None:
        if self.result == "swapped" and (self.before is None or self.rehearsal is None):
            raise ValueError("neither the model before nor the rehearsal")


class _Process(msgspec.Struct, frozen=True):
    """The model that one process serves."""

    pid: Count
    name: str
    digest: str


class _Canary(msgspec.Struct, frozen=True):
    """A second model, with its counts of all processes by kind and name."""

    model: str
    digest: str
    share: Fraction
    shadow: bool
    failure: str
    requests: dict[str, Count]
    images: dict[str, Count]
    boxes: dict[str, Count]
    agreement: Fraction | None
    seconds: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}


class StatusAnswer(msgspec.Struct, frozen=True):
    """Answer to ``GET /admin/status`` and to commands on canaries, as far as it is shown."""

    processes: list[_Process]
    canary: _Canary | None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """The service that a command goes to, where no deployment file names it.

    Attributes:
        url: Address of the service's admin port: http://127.0.0.1:PORT.
        port: Port of the service, where it runs on this machine as this user.
        token_file: File whose first line is the token for --url [default: $SEATRIAL_TOKEN].
    """

    url: str | None = None
    port: int | None = None
    token_file: Path | None = None

    def admin_port(self) -> tuple[str, int] | None:
        """Host and port of `url`; None without one.

        Raises:
            InvalidConfig: It is not the address of an admin port.
        """
        if self.url is None:
            return None
        usual = "give http://127.0.0.1:ADMIN_PORT"
        try:
            parts = urlsplit(self.url if "//" in self.url else f"//{self.url}")
            host, port = parts.hostname, parts.port
        except ValueError as error:  # a port beyond 65535, half a bracket
            raise InvalidConfig(f"--url {self.url}: {error}", hint=usual) from error
        if parts.scheme not in ("", "http") or parts.path.strip("/") or parts.query:
            raise InvalidConfig(
                f"--url {self.url} is not the address of an admin port, which speaks http",
                hint=f"give http://{parts.netloc}" if host and port else usual,
            )
        if not host or not port:
            raise InvalidConfig(f"--url {self.url} has no host and port", hint=usual)
        return host, port

    def server(self, deployment: Path | None) -> Server:
        """The address of the service.

        Raises:
            InvalidConfig: The deployment file cannot be used, or `port` is none.
        """
        if self.port is not None:
            return server_of(port=self.port)
        return Server() if deployment is None else Deployment.read(deployment).server


def ask_service(
    command: str,
    body: dict[str, Any],
    deployment: Path | None,
    options: ServiceOptions | None,
    *,
    kind: type[T],
) -> tuple[dict[str, Any], T]:
    """The answer of a service to a command.

    Args:
        command: Method and path: ``POST /admin/reload``.
        body: Its JSON.
        deployment: Deployment file of the service.
        options: Which service it is.
        kind: Struct of the answer to this command.

    Returns:
        All that it says, and what is shown of it.

    Raises:
        InvalidConfig: The options name no service, or two.
        ServiceFailed: None takes commands there.
        SeatrialError: It refuses; the error is of the class that it raised.
    """
    from seatrial.serve.control import Address, ask, find_socket

    service = options or ServiceOptions()
    if service.url is not None and (service.port is not None or deployment is not None):
        raise InvalidConfig(
            "--url names a service, and so does what stands beside it",
            hint="give one of --url, --port and a deployment file",
        )
    address: Address | None = service.admin_port()
    token = CredentialOptions(token_file=service.token_file).read(service.url).token
    place = service.url
    if address is None:
        server = service.server(deployment)
        place, address = f"port {server.port}", find_socket(server)
        if "model" in body:  # the service has a working folder of its own
            body = {**body, "model": _absolute(body["model"])}
    if address is None:
        raise _nobody(place)
    try:
        status, told = ask(address, command, body, timeout_s=COMMAND_S, token=token)
    except KeyboardInterrupt:
        if command in TRIED_FIRST:
            err.print(GIVEN_UP, highlight=False, soft_wrap=True)
        raise
    except (ServiceFailed, OSError, UnicodeError) as error:
        raise _nobody(place) from error
    if status != 200:
        raise _refusal(place, status, told)
    try:
        return told, msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise _nobody(place) from error


def _absolute(model: str) -> str:
    """A path as another process finds it; a name in the store as it is."""
    path = Path(model).expanduser()
    is_path = "/" in model or path.is_file() or (path / MANIFEST).is_file()
    return str(path.absolute()) if is_path else model


def _nobody(place: str | None) -> ServiceFailed:
    return ServiceFailed(
        f"no service takes commands at {place}",
        hint="does it run on this machine, as this user and with the same TMPDIR? name it by "
        "--port, its deployment file, or --url http://127.0.0.1:ADMIN_PORT",
    )


def _refusal(place: str | None, status: int, told: Any) -> SeatrialError:
    from seatrial.client.wire import HttpAnswer, refusal

    error = refusal(str(place), HttpAnswer(status, {}, msgspec.json.encode(told)))
    if isinstance(error, Unauthorized):
        error.hint = f"name a file with a token of the service by --token-file, or set {TOKEN}"
    # Something answers, and it is no admin port: the port for requests, most likely.
    if status not in NO_ADMIN_PORT:
        return error
    return ServiceFailed(
        f"no service takes commands at {place}: what answers there is not an admin port",
        hint="give http://127.0.0.1:ADMIN_PORT with server.admin_port of the deployment; on the "
        "machine of the service --port or the deployment file name it without one",
    )
