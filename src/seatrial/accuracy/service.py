"""A running service as the subject of an evaluation: what the callers of it get is measured."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from typing import Any

import msgspec

from seatrial.accuracy.predict import Seen
from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed

MOST_CONNECTIONS = 32
TRIES_WHEN_BUSY = 20
# The service refuses the picture itself with these: too large, no image, a damaged one.
PICTURE_REFUSED = frozenset({413, 415, 422})


class _Layout(msgspec.Struct):
    workers: int = 1
    instances: int = 1


class _Model(msgspec.Struct):
    name: str
    digest: str
    labels: tuple[str, ...]
    engine: str
    device: str
    precision: str
    layout: _Layout


class _Problem(msgspec.Struct):
    message: str
    code: str = ""
    hint: str = ""


class _Failure(msgspec.Struct):
    error: _Problem


class RemoteDetector:
    """A running service, over a few keep-alive connections.

    Args:
        url: Scheme, host and port, ``http://127.0.0.1:3000``.
        timeout_s: A picture that takes longer failed.

    Raises:
        InvalidConfig: Not an http(s) address.
        ServiceFailed: Nobody listens there, or it does not describe itself at ``/model``.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self._parts = urllib.parse.urlsplit(url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise InvalidConfig(
                f"{url!r} is not an http address",
                hint="give scheme, host and port, for example http://127.0.0.1:3000",
            )
        self._url = url
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        status, _, body = self._exchange("GET", "/model", b"")
        try:
            self._model = msgspec.json.decode(body, type=_Model)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceFailed(
                f"{url}/model does not describe a detector (status {status}): {error}",
                hint="give the address of a service that seatrial serve started",
            ) from error
        layout = self._model.layout
        self.labels = self._model.labels
        self.concurrency = min(MOST_CONNECTIONS, layout.workers * layout.instances + 1)

    def describe(self) -> dict[str, Any]:
        """See `Subject.describe`."""
        return {
            "url": self._url,
            **{
                key: getattr(self._model, key)
                for key in ("name", "digest", "engine", "device", "precision")
            },
        }

    def check(self, artifact: Artifact) -> None:
        """See that the service serves an artifact.

        Raises:
            InvalidInput: It serves another one.
        """
        if self._model.digest != artifact.digest:
            raise InvalidInput(
                f"{self._url} serves {self._model.name} ({self._model.digest[:12]}), not "
                f"{artifact.manifest.name} ({artifact.digest[:12]})",
                hint="start the service with that artifact, or name none to measure what it serves",
            )

    def detect(self, data: bytes, rules: Thresholds) -> Seen:
        """See `Subject.detect`."""
        if not data:
            raise InvalidInput("the image is empty (0 bytes)")
        query = urllib.parse.urlencode(
            {key: str(value).lower() for key, value in msgspec.structs.asdict(rules).items()}
        )
        for _ in range(TRIES_WHEN_BUSY):
            status, headers, body = self._exchange("POST", f"/detect?{query}", data)
            if status != 503:
                break
            time.sleep(float(headers.get("Retry-After", "1")))
        if status != 200:
            raise self._refusal(status, body)
        try:
            return msgspec.json.decode(body, type=Seen)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceFailed(f"{self._url}/detect answers something else: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        for connection in self._open:
            connection.close()

    def _refusal(self, status: int, body: bytes) -> InvalidInput | ServiceFailed:
        try:
            problem = msgspec.json.decode(body, type=_Failure).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = _Problem(body[:200].decode("utf-8", "replace").strip())
        if status in PICTURE_REFUSED:
            return InvalidInput(problem.message, hint=problem.hint)
        return ServiceFailed(
            f"{self._url}/detect answers {status}: {problem.message}", hint=problem.hint
        )

    def _exchange(
        self, method: str, target: str, body: bytes
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        path = self._parts.path.rstrip("/") + target
        headers = {"Content-Type": "application/octet-stream"} if body else {}
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, path, body or None, headers)
                response = connection.getresponse()
                return response.status, response.headers, response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()  # the next request opens it again
                # A connection that idled may have been closed under us: that is no failure.
                gone = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
                if attempt == 2 or not gone or isinstance(error, ConnectionRefusedError):
                    what = str(error) or type(error).__name__
                    raise ServiceFailed(
                        f"{self._url} does not answer: {what}",
                        hint="start one with: seatrial serve --model NAME",
                    ) from error
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            secure = self._parts.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout_s)
            self._local.connection = connection
            self._open.append(connection)
        return connection
