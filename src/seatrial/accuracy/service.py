"""A running service as the subject of an evaluation: what its clients get is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from seatrial.accuracy.predict import SeenImage
from seatrial.artifact import Artifact
from seatrial.config import UNDECODABLE
from seatrial.deployment import Thresholds
from seatrial.detect.answer import Box, ImageSize
from seatrial.detect.detections import Detections
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed
from seatrial.system.extras import require

if TYPE_CHECKING:
    import httpx

MOST_CONNECTIONS = 32
TRIES_WHEN_BUSY = 20
# The service refuses the image itself with these: too large, no image, a damaged one.
IMAGE_REFUSED = frozenset({413, 415, 422})


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


class _Reply(msgspec.Struct):
    image: ImageSize
    detections: list[Box]
    timing_ms: dict[str, float] = {}


class _Problem(msgspec.Struct):
    message: str
    code: str = ""
    hint: str = ""


class _Failure(msgspec.Struct):
    error: _Problem


class RemoteDetector:
    """A running service, over a few connections that stay open. Thread-safe.

    Args:
        url: Scheme, host and port, ``http://127.0.0.1:3000``.
        timeout_s: Longest wait for one image.

    Raises:
        InvalidConfig: Not an http(s) address.
        MissingExtra: httpx is not installed.
        ServiceFailed: There is no service, or it does not describe itself at ``/model``.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        library = require("httpx", extra="evaluate", purpose="measuring a running service")
        self._library = library
        self._url = url.rstrip("/")
        try:
            address = library.URL(self._url)
        except library.InvalidURL:
            address = library.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise InvalidConfig(
                f"{url!r} is not an http address",
                hint="give scheme, host and port, for example http://127.0.0.1:3000",
            )
        # No proxies of the environment: services under test run on this machine or beside it.
        self._client: httpx.Client = library.Client(
            timeout=timeout_s,
            limits=library.Limits(
                max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS
            ),
            trust_env=False,
        )
        try:
            answer = self._exchange("GET", "/model")
            try:
                self._model = msgspec.json.decode(answer.content, type=_Model)
            except UNDECODABLE as error:
                raise ServiceFailed(
                    f"{url}/model does not describe a detector (status {answer.status_code}): "
                    f"{error}",
                    hint="give the address of a service that seatrial serve started",
                ) from error
        except BaseException:
            self.close()
            raise
        layout = self._model.layout
        self.labels = self._model.labels
        self.digest = self._model.digest
        self.concurrency = min(MOST_CONNECTIONS, layout.workers * layout.instances + 1)

    def describe(self) -> dict[str, Any]:
        """See `Subject.describe`."""
        keys = ("name", "digest", "engine", "device", "precision")
        return {"url": self._url, **{key: getattr(self._model, key) for key in keys}}

    def check(self, artifact: Artifact) -> None:
        """Check that the service serves an artifact.

        Raises:
            InvalidInput: It serves another one.
        """
        if self._model.digest != artifact.digest:
            raise InvalidInput(
                f"{self._url} serves {self._model.name} ({self._model.digest[:12]}), not "
                f"{artifact.manifest.name} ({artifact.digest[:12]})",
                hint="start the service with that artifact, or name none to measure what it serves",
            )

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """See `Subject.detect`."""
        if not data:
            raise InvalidInput("the image is empty (0 bytes)")
        query = {key: str(value).lower() for key, value in msgspec.structs.asdict(rules).items()}
        for _ in range(TRIES_WHEN_BUSY):
            answer = self._exchange("POST", "/detect", query, data)
            if answer.status_code != 503:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        if answer.status_code != 200:
            raise self._refusal(answer.status_code, answer.content)
        try:
            reply = msgspec.json.decode(answer.content, type=_Reply)
        except UNDECODABLE as error:
            raise ServiceFailed(f"{self._url}/detect answers something else: {error}") from error
        return SeenImage(reply.image, from_rows(reply.detections), reply.timing_ms)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refusal(self, status: int, body: bytes) -> InvalidInput | ServiceFailed:
        try:
            problem = msgspec.json.decode(body, type=_Failure).error
        except UNDECODABLE:
            problem = _Problem(body[:200].decode("utf-8", "replace").strip())
        if status in IMAGE_REFUSED:
            return InvalidInput(problem.message, hint=problem.hint)
        return ServiceFailed(
            f"{self._url}/detect answers {status}: {problem.message}", hint=problem.hint
        )

    def _exchange(
        self, method: str, path: str, query: dict[str, str] | None = None, body: bytes | None = None
    ) -> httpx.Response:
        library = self._library
        # A connection that idled may have been closed by the service: that is no failure.
        dropped = (library.ReadError, library.WriteError, library.RemoteProtocolError)
        headers = {"Content-Type": "application/octet-stream"} if body else {}
        for attempt in (1, 2):
            try:
                answer: httpx.Response = self._client.request(
                    method, f"{self._url}{path}", params=query, content=body, headers=headers
                )
                return answer
            except (library.HTTPError, library.InvalidURL) as error:
                if attempt == 1 and isinstance(error, dropped):
                    continue
                raise ServiceFailed(
                    f"{self._url} does not answer: {str(error) or type(error).__name__}",
                    hint="start one with: seatrial serve --model NAME",
                ) from error
        raise AssertionError("unreachable")


def from_rows(rows: Sequence[Box]) -> Detections:
    """The rows of an answer as arrays, in their order."""
    return Detections(
        np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        np.array([row.confidence for row in rows], np.float32),
        np.array([row.class_id for row in rows], np.int64),
    )
