"""Token and authorities with which a client goes to a service."""

from __future__ import annotations

import ssl
from os import PathLike
from pathlib import Path

import msgspec

from seatrial.errors import InvalidConfig, Unauthorized
from seatrial.system.files import beside, bounded_bytes

MOST_BYTES = 16 * 2**20  # those of an operating system have 0.2 MiB
HINT = "name a PEM file with the authority of the service's certificate"


class Credentials(msgspec.Struct, frozen=True):
    """Token and authorities with which a client goes to a service; no text of it holds the token.

    Attributes:
        token: Sent as ``Authorization: Bearer ...``; None sends none.
        ca_file: Authorities that https certificates are checked by, PEM; None: the machine's.
    """

    token: str | None = None
    ca_file: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        token = self.token
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise InvalidConfig("the token is empty, or has characters that no header may have")

    def __repr__(self) -> str:
        return f"Credentials(token={'...' if self.token else None}, ca_file={self.ca_file!r})"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def tls(self) -> ssl.SSLContext:
        """Settings of https connections.

        Raises:
            InvalidConfig: The file of authorities cannot be used.
        """
        if self.ca_file is None:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cadata=self.authorities().decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidConfig(
                f"ca_file {self.ca_file} cannot be used: it holds no certificate in PEM", hint=HINT
            ) from error

    def authorities(self) -> bytes:
        """The content of the file of authorities, which is named.

        Raises:
            InvalidConfig: It cannot be read.
        """
        assert self.ca_file is not None  # noqa: S101
        file = Path(self.ca_file)
        try:
            return bounded_bytes(file, MOST_BYTES)
        except OSError as error:
            raise InvalidConfig(
                f"ca_file {file} cannot be used: {error.strerror}", hint=beside(file)
            ) from error


NONE = Credentials()


def needs_token(where: str, said: str = "") -> Unauthorized:
    """The error for a service that wants a token.

    Args:
        where: Its address.
        said: Its own words; empty where it has none.
    """
    return Unauthorized(
        f"{where} needs a token: {said or 'the request has none that it knows'}",
        hint="name a file with a token of the service by --token-file, or set SEATRIAL_TOKEN; in "
        "Python: token=",
    )
