"""The options with which commands go to a running service that asks who they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from seatrial.errors import InvalidConfig
from seatrial.system.token_files import checked_tokens, read_tokens

if TYPE_CHECKING:
    from seatrial.client.credentials import Credentials

TOKEN = "SEATRIAL_TOKEN"  # noqa: S105  a name


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CredentialOptions:
    """Credentials for a service at --url; a token is never an option: others see those.

    Attributes:
        token_file: File whose first line is the token for --url [default: $SEATRIAL_TOKEN].
        ca_file: Authorities that the certificate of an https --url is checked by, PEM
            [default: the machine's].
    """

    token_file: Path | None = None
    ca_file: Path | None = None

    def read(self, url: str | None) -> Credentials:
        """The credentials for an address; none where there is no address.

        Raises:
            InvalidConfig: A file cannot be used, or a file is given and no address.
        """
        from seatrial.client.credentials import NONE, Credentials

        if url is None:
            if self != CredentialOptions():
                raise InvalidConfig("--token-file and --ca-file are for a service at --url")
            return NONE
        token = None
        if self.token_file is not None:
            token = read_tokens(self.token_file)[0]
        elif os.environ.get(TOKEN):
            token = checked_tokens([os.environ[TOKEN].strip()], f"${TOKEN}")[0]
        return Credentials(token, self.ca_file)
