"""A running service as the subject of an evaluation: what its clients get is measured."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.accuracy.predict import SeenImage
from seatrial.artifact import Artifact
from seatrial.client.calls import Call, Calls, Pause
from seatrial.client.credentials import NONE, Credentials
from seatrial.client.retries import pause_s
from seatrial.client.transport import ThreadTransport
from seatrial.client.wire import DetectionReply, ServedModel
from seatrial.deployment import Thresholds
from seatrial.errors import (
    DeadlineExceeded,
    InputTooLarge,
    InvalidImage,
    InvalidInput,
    Overloaded,
    SeatrialError,
    ServiceFailed,
    UnsupportedImage,
)

MOST_CONNECTIONS = 32
TRIES_WHEN_BUSY = 20
TRIES_WHEN_LATE = 5  # each of `timeout_s`
# The service refuses the image itself with these.
IMAGE_REFUSED = (InputTooLarge, UnsupportedImage, InvalidImage)


class RemoteDetector:
    """A running service, over a few connections that stay open. Thread-safe.

    No image may be missing from an evaluation: it asks again as often as a busy service needs.

    Args:
        url: Scheme, host and port, ``http://127.0.0.1:3000``.
        timeout_s: Longest wait for one image, each time that it is asked for.
        patient: Ask as a batch, which gives way to the service's other clients, with a deadline of
            `timeout_s` or the longest that the service takes; and again where it was late.
        credentials: What the service wants to see.

    Raises:
        InvalidConfig: Not an http(s) address.
        MissingExtra: httpcore is not installed.
        ServiceFailed: There is no service, or it does not describe itself at ``/model``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        credentials: Credentials = NONE,
        patient: bool = False,
    ) -> None:
        self._timeout_s, self._patient = timeout_s, patient
        self._calls = Calls(
            url, timeout_s=timeout_s, retries=TRIES_WHEN_BUSY, token=credentials.token
        )
        self._connections = ThreadTransport(
            url, connections=MOST_CONNECTIONS, ca_file=credentials.ca_file
        )
        try:
            self._model = self._connections.run(self._asked())
        except BaseException:
            self.close()
            raise
        self.labels = self._model.labels
        self.digest = self._model.digest
        self.usual = self._model.detection
        self.concurrency = min(MOST_CONNECTIONS, self._model.concurrency)

    def _asked(self) -> Call[ServedModel]:
        """The question what is served; a person wants to know now that nothing answers."""
        return self._calls.model(self._calls.deadline(), retries=1)

    def describe(self) -> dict[str, Any]:
        """See `Subject.describe`."""
        keys = ("name", "digest", "engine", "device", "precision")
        return {"url": self._calls.url, **{key: getattr(self._model, key) for key in keys}}

    def check(self, artifact: Artifact) -> None:
        """Check that the service serves an artifact.

        Raises:
            InvalidInput: It serves another one.
        """
        if self.digest != artifact.digest:
            raise InvalidInput(
                f"{self._calls.url} serves {self._model.name} ({self.digest[:12]}), not "
                f"{artifact.manifest.name} ({artifact.digest[:12]})",
                hint="start the service with that artifact, or name none to measure what it serves",
            )

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """See `Subject.detect`."""
        if not data:
            raise InvalidInput("the image is empty (0 bytes)")
        query = msgspec.structs.asdict(rules)
        try:
            reply = self._connections.run(self._reply(data, query))
        except IMAGE_REFUSED as error:
            raise InvalidInput(error.message, hint=error.hint) from error
        except ServiceFailed:
            raise
        except SeatrialError as error:
            raise ServiceFailed(
                f"{self._calls.url}/detect answers {error.http_status}: {error.message}",
                hint=error.hint,
            ) from error
        return SeenImage(reply.size, reply.detections, dict(reply.timing_ms), reply.warnings)

    def _reply(self, data: bytes, query: dict[str, Any]) -> Call[DetectionReply]:
        late = 0
        while True:
            try:
                reply, _ = yield from self._asking(data, query)
            except (DeadlineExceeded, Overloaded):
                late += 1
                if not self._patient or late == TRIES_WHEN_LATE:
                    raise
                yield Pause(pause_s(late))
            else:
                self._check_model(reply)
                return reply

    def _check_model(self, reply: DetectionReply) -> None:
        """Refuse the answer of another model: a reload, or a canary beside this one."""
        if reply.digest and reply.digest != self.digest:
            raise ServiceFailed(
                f"{self._calls.url} answered with another model ({reply.digest[:12]}) than the one "
                f"that is measured ({self.digest[:12]})",
                hint="end the canary, or measure again when the change of the model is over",
            )

    def _asking(
        self, data: bytes, query: dict[str, Any]
    ) -> Call[tuple[DetectionReply, tuple[str, ...]]]:
        if not self._patient:
            return self._calls.detect(data, query, self._calls.deadline(), None)
        own_s = min(self._timeout_s, self._model.limits.longest_deadline_s)
        return self._calls.detect(data, query, self._calls.deadline(own_s), "batch")

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
