"""Requests to a hub, and what goes wrong with them in words that help.

The standard library's HTTP client: what it lacks (retries, credentials that stay with their
host) is here, and the core package stays free of a second HTTP stack.
"""

from __future__ import annotations

import socket
import ssl
import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

import seatrial
from seatrial.errors import InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.hubs.access import Access, Hub

T = TypeVar("T")
BROKEN = (OSError, HTTPException)  # URLError and TimeoutError are OSErrors
PASSING = (408, 429, 500, 502, 503, 504)  # worth another attempt
MISSING = ("RepoNotFound", "RevisionNotFound", "EntryNotFound")
LONGEST_WAIT_S = 10.0
LONGEST_JSON = 64 * 2**20
_PRIVATE = ("Authorization", "Cookie")


class Client:
    """Sends requests to hubs.

    Args:
        access: Proxies, time limits and patience.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(
                {k: v for k, v in access.proxies.items() if k in ("http", "https")}
            ),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
        ):
            self._opener.add_handler(handler)

    def send(self, hub: Hub, url: str, headers: dict[str, str] | None = None) -> HTTPResponse:
        """GET, once; follows redirects, and leaves the hub's token behind at a change of host.

        Raises:
            SourceUnavailable: A setting forbids the network, or a redirect drops https.
            urllib.error.HTTPError: The answer is an error.
            OSError, http.client.HTTPException: There is no answer.
        """
        if hub.offline_setting:
            raise SourceUnavailable(
                f"{hub.title} is not asked: {hub.offline_setting} is set",
                hint=f"unset {hub.offline_setting} to go online",
            )
        request = urllib.request.Request(url, headers=self._headers(hub) | (headers or {}))
        response: HTTPResponse = self._opener.open(request, timeout=self.access.timeout_s)
        return response

    def get_json(
        self, hub: Hub, path: str, kind: type[T], params: list[tuple[str, str]] | None = None
    ) -> tuple[T, Message]:
        """GET an answer of the hub's API.

        Args:
            hub: To ask.
            path: Under the endpoint, or a whole address on the same host.
            kind: Struct that the answer is decoded into.
            params: Of the query.

        Returns:
            The answer and its headers.

        Raises:
            InvalidInput: The hub says that there is no such thing.
            SourceUnavailable: Anything else that went wrong.
        """
        url = path if "://" in path else hub.endpoint + path
        if params:
            url += "?" + urlencode(params)
        for attempt in range(1, self.access.attempts + 1):
            try:
                with self.send(hub, url) as response:
                    data, headers = response.read(LONGEST_JSON), response.headers
                return msgspec.json.decode(data, type=kind), headers
            except urllib.error.HTTPError as error:
                last = attempt == self.access.attempts
                if error.code not in PASSING or last or not self.wait(attempt, error):
                    raise refusal(hub, error) from error
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SourceUnavailable(
                    f"{hub.title} at {hub.endpoint} gave something else than its API does: {error}",
                    hint=f"a login page of the network, or {hub.mirror_setting} names no mirror",
                ) from error
            except BROKEN as error:
                raise unreachable(hub, error) from error
        raise AssertionError("the last attempt returns or raises")

    def wait(self, attempt: int, error: Exception | None = None) -> bool:
        """Sleep before the next attempt; False where the hub asks for more than is reasonable."""
        asked = None
        if isinstance(error, urllib.error.HTTPError):
            text = error.headers.get("Retry-After", "")
            asked = float(text) if text.isdigit() else None
        if asked is not None and asked > LONGEST_WAIT_S:
            return False
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        backoff = self.access.patience_s * 2 ** (attempt - 1)
        time.sleep(min(backoff, LONGEST_WAIT_S) if asked is None else asked)
        return True

    def _headers(self, hub: Hub) -> dict[str, str]:
        headers = {"User-Agent": f"seatrial/{seatrial.__version__}", "Accept-Encoding": "identity"}
        if hub.token:
            headers["Authorization"] = f"Bearer {hub.token}"
            if hub.source == "modelscope":  # its file routes read the cookie, its API the header
                headers["Cookie"] = f"m_session_id={hub.token}"
        return headers


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; credentials stay with the host that they were meant for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is None:
            return None
        if req.type == "https" and following.type != "https":
            raise SourceUnavailable(
                f"{req.host} redirects to {following.type}, without encryption",
                hint="a proxy may be in between; do not use what it serves",
            )
        if following.host != req.host:
            for name in _PRIVATE:
                following.remove_header(name)
        return following


def unreachable(hub: Hub, error: Exception) -> SourceUnavailable:
    """There was no answer."""
    reason = getattr(error, "reason", None) or error
    return SourceUnavailable(
        f"{hub.title} cannot be reached at {hub.endpoint}: {_words(reason)}",
        hint=f"check the network; {mirror(hub)}, a proxy by HTTPS_PROXY",
    )


def mirror(hub: Hub) -> str:
    """How to reach another address of the hub."""
    return f"another address (a mirror) is set by {hub.mirror_setting}=https://..."


def refusal(hub: Hub, error: urllib.error.HTTPError) -> SeatrialError:
    """The answer was an error."""
    code, what = error.code, error.headers.get("X-Error-Code", "")
    said = error.headers.get("X-Error-Message", "") or error.reason
    error.close()
    if code == 404 or what in MISSING:
        return InvalidInput(f"{hub.title} has nothing at {urlsplit(error.url).path}")
    if code in (401, 403):
        return _forbidden(hub, code, what, said)
    if 300 <= code < 400:
        return SourceUnavailable(
            f"{hub.title} at {hub.endpoint} redirects in circles", hint=mirror(hub)
        )
    if code == 429:
        after = error.headers.get("Retry-After")
        when = f"; it asks to wait {after} s" if after else ""
        return SourceUnavailable(
            f"{hub.title} at {hub.endpoint} refuses: too many requests (429){when}",
            hint=f"wait; with {hub.token_setting} the limits are higher; {mirror(hub)}",
        )
    return SourceUnavailable(
        f"{hub.title} at {hub.endpoint} answered {code} ({said})",
        hint=f"try again later; {mirror(hub)}",
    )


def _forbidden(hub: Hub, code: int, what: str, said: str) -> SourceUnavailable:
    if what == "GatedRepo":
        return SourceUnavailable(
            f"{hub.title} gives this model only to those who accepted its terms ({code}: {said})",
            hint=f"accept them on the model's page, then set {hub.token_setting}",
        )
    if hub.token:
        return SourceUnavailable(
            f"{hub.title} does not accept the token for this model ({code}: {said})",
            hint=f"set {hub.token_setting} to one that may read it, or unset it for public models",
        )
    return SourceUnavailable(
        f"{hub.title} wants to know who asks ({code}: {said})",
        hint=f"the model may be private or gated: set {hub.token_setting}; {mirror(hub)}",
    )


def _words(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return f"its name is not known here ({reason.strerror})"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message}; see SSL_CERT_FILE)"
    if isinstance(reason, ssl.SSLError):
        return f"no encrypted connection ({reason.reason})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
