"""Bearer tokens (RFC 6750) as files and variables of the environment hold them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from seatrial.errors import InvalidConfig
from seatrial.system.files import beside, bounded_bytes

SERVER_TOKENS = "SEATRIAL_SERVER_TOKEN"  # one or several, with spaces between them
SHORTEST, LONGEST = 16, 512  # characters
MOST_BYTES = 64 * 1024  # of a file
MADE_BY = "openssl rand -hex 32"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1


def read_tokens(file: Path) -> list[str]:
    """The tokens of a file: one a line, without empty lines and those that begin with ``#``.

    Raises:
        InvalidConfig: It cannot be read, or holds something else. No message holds a token.
    """
    try:
        data = bounded_bytes(file, MOST_BYTES)
    except OSError as error:
        raise InvalidConfig(
            f"{file} cannot be read: {error.strerror}",
            hint=beside(
                file, otherwise=f"make one: (umask 077 && {MADE_BY} > {shlex.quote(str(file))})"
            ),
        ) from error
    # Editors of Windows begin a file with a mark of its encoding.
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    return checked_tokens([line for line in lines if line and not line.startswith("#")], str(file))


def checked_tokens(tokens: Sequence[str], origin: str) -> list[str]:
    """The same tokens.

    Args:
        tokens: What was found.
        origin: Where, for the error.

    Raises:
        InvalidConfig: There is none, or one is too short, too long or has other characters.
    """
    for number, token in enumerate(tokens, 1):
        if not (SHORTEST <= len(token) <= LONGEST and _TOKEN.fullmatch(token)):
            raise InvalidConfig(
                f"token {number} of {origin} cannot be one: a token has {SHORTEST} to {LONGEST} "
                "letters, digits and characters of -._~+/",
                hint=f"make one with {MADE_BY}",
            )
    if not tokens:
        raise InvalidConfig(f"{origin} holds no token", hint=f"make one with {MADE_BY}")
    return list(tokens)
