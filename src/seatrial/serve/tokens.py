"""Bearer tokens (RFC 6750): who may ask the service for anything but whether it is alive.

Tokens come from a file, one a line, which is read again when it changes, and from the environment.
No error, log or description holds one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from seatrial.deployment import Server
from seatrial.errors import SeatrialError, Unauthorized
from seatrial.report.numbers import counted
from seatrial.serve.health import PROBES
from seatrial.serve.log import say
from seatrial.serve.watched_files import WatchedFiles
from seatrial.system.token_files import SERVER_TOKENS, checked_tokens, read_tokens

METRICS = "/metrics"

Headers = Iterable[tuple[bytes, bytes]]


class Tokens:
    """The tokens that requests are let in with; without any, all requests are.

    Args:
        server: Names the file, and whether ``/metrics`` needs a token.
        environment: Environment of the process.

    Raises:
        InvalidConfig: The file cannot be read or holds none, or a token is none.
    """

    def __init__(self, server: Server = Server(), environment: Mapping[str, str] = {}) -> None:  # noqa: B008  never changed
        self._file = None if server.token_file is None else Path(server.token_file)
        given = environment.get(SERVER_TOKENS)
        self._own = [] if given is None else _digests(checked_tokens(given.split(), SERVER_TOKENS))
        self._open = {route.path for route in PROBES}
        if server.open_metrics:
            self._open.add(METRICS)
        self._known: tuple[bytes, ...] = ()
        self._watch = WatchedFiles([self._file] if self._file else [], self._reread)
        try:
            self._known = self._read()
        except BaseException:
            self._watch.close()
            raise

    @property
    def required(self) -> bool:
        """Whether requests need a token."""
        return bool(self._known)

    def check(self, path: str, headers: Headers) -> None:
        """Check the token of a request.

        It takes as long for a token that is nearly right as for any other.

        Args:
            path: Path of the request, decoded.
            headers: Its headers, names in lower case.

        Raises:
            Unauthorized: It needs a token and has none, or one that is not known.
        """
        if not self._known or path in self._open:
            return
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            raise Unauthorized(
                "the request has no token", hint="send the header Authorization: Bearer TOKEN"
            )
        scheme, _, token = given[0].partition(b" ")
        digest, found = sha256(token.strip()).digest(), False
        for known in self._known:
            found |= hmac.compare_digest(known, digest)
        if not found or scheme.lower() != b"bearer" or len(given) > 1:
            raise Unauthorized(
                "the request has no token that is known here",
                hint="send one header Authorization: Bearer TOKEN, with a token of this service",
            )

    def close(self) -> None:
        """Look at the file no more."""
        self._watch.close()

    def _read(self) -> tuple[bytes, ...]:
        own = self._own
        if self._file is None:
            return tuple(own)
        return (*own, *_digests(read_tokens(self._file)))

    def _reread(self) -> None:
        try:
            self._known = self._read()
        except SeatrialError as error:
            say("error", "tokens", f"the tokens stay as they are: {error.message}")
        else:
            say("info", "tokens", f"{counted(len(self._known), 'token')} in force")


def _digests(tokens: Iterable[str]) -> list[bytes]:
    """Digests, so that comparing two takes as long whatever the tokens are."""
    return [sha256(token.encode()).digest() for token in tokens]
