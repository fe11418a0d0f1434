"""Token and authorities with which a client goes to a service."""

from __future__ import annotations

import os
import ssl
from os import PathLike

import msgspec

from seatrial.errors import InvalidConfig


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
        file = self.ca_file
        try:
            return ssl.create_default_context(cafile=None if file is None else os.fspath(file))
        except OSError as error:  # ssl.SSLError too
            raise InvalidConfig(f"ca_file {file} cannot be used: {error}") from error


NONE = Credentials()
