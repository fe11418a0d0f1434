"""Messages of a service: its description, detections, errors."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from seatrial import errors
from seatrial.client.credentials import needs_token
from seatrial.config import UNDECODABLE, Few
from seatrial.deployment import Limits, Thresholds
from seatrial.detect.answer import Box, ImageSize
from seatrial.detect.detections import Detections
from seatrial.errors import Overloaded, SeatrialError, ServiceFailed, Unauthorized

T = TypeVar("T")
# Error classes by the code that a service sends.
CODES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SeatrialError)
}
SHOWN = 200  # characters of an answer that is not a service's
LOOKED_AT = 4096  # bytes of such an answer in which its title is looked for
MESSAGE = 2000  # characters of what a service says of an error
MOST_AT_A_TIME = 1024  # images: a thread for each
FARTHEST = 2.0**31  # of a corner from the other, pixels: areas are numbers of float32 too
# What is made of an answer takes many times its length, and time that no deadline ends. So an
# answer is as long as what was asked for at most: a detection of ours has 150 bytes and its label.
DETECTION_BYTES = 1024
# Where a request names no number: the deployment may be another meanwhile.
LEAST_DETECTIONS = 1000
BESIDE_BYTES = 128 * 1024  # size, times, warnings, and what later versions say
MODEL_BYTES = 8 * 2**20  # 100,000 classes
TIMES, TIMES_BYTES = 64, 4 * 1024
WARNINGS, WARNINGS_BYTES = 64, 64 * 1024
NOTHING = msgspec.Raw(b"null")
WAIT_DIGITS = 9  # of milliseconds: eleven days


class HttpAnswer(msgspec.Struct, frozen=True):
    """An HTTP answer: status, headers by name in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def encoding(self) -> str:
        """How the body is packed, which no request asks for; empty where it is not."""
        named = self.headers.get("content-encoding", "").strip()
        return "" if named.lower() == "identity" else named


class ServedLayout(msgspec.Struct, frozen=True):
    """How a service shares out its cores: processes, and lanes in each of them."""

    workers: Few = 1
    instances: Few = 1


class ServedLimits(msgspec.Struct, frozen=True):
    """Limits of a service that its clients keep to.

    Attributes:
        longest_deadline_s: Longest deadline that a request may name, seconds.
    """

    longest_deadline_s: Annotated[float, msgspec.Meta(gt=0)] = Limits().longest_deadline_s


class ServedModel(msgspec.Struct, frozen=True):
    """The model of a service, and how it is served.

    Attributes:
        name: Name of the artifact.
        digest: Digest of the artifact.
        labels: Class names, by class number.
        engine: Engine that computes.
        device: Device that it really computes on.
        precision: Numeric type that it really computes in.
        layout: How the service shares out its cores.
        detection: Thresholds where a request names none.
        limits: Limits above which a request is refused.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    engine: str
    device: str
    precision: str
    layout: ServedLayout = ServedLayout()
    detection: Thresholds = Thresholds()  # services of earlier versions do not say theirs
    limits: ServedLimits = ServedLimits()

    @property
    def concurrency(self) -> int:
        """Images that it is worth asking for at a time: one is decoded while the lanes infer."""
        return min(self.layout.workers * self.layout.instances + 1, MOST_AT_A_TIME)


Side = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
# A sum of larger numbers is beyond what a float holds.
Milliseconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]


class _Size(msgspec.Struct):
    width: Side
    height: Side


class _Reply(msgspec.Struct):
    image: _Size
    detections: list[Box]
    timing_ms: msgspec.Raw = NOTHING
    warnings: msgspec.Raw = NOTHING


class DetectionReply(msgspec.Struct, frozen=True):
    """The answer to one image.

    Attributes:
        size: Size of the upright image, pixels.
        detections: The boxes.
        labels: Class name of each box.
        timing_ms: Stage -> milliseconds on the server.
        warnings: What is odd about the image, which can be used all the same.
        digest: Digest of the model that answered; empty where that is not told.
    """

    size: ImageSize
    detections: Detections
    labels: tuple[str, ...]
    timing_ms: Mapping[str, float]
    warnings: tuple[str, ...]
    digest: str = ""


class _Problem(msgspec.Struct):
    message: str
    code: str = ""
    hint: str = ""
    reason: str = ""


class _Failure(msgspec.Struct):
    error: _Problem


def read_model(url: str, answer: HttpAnswer) -> ServedModel:
    """The description of a service, from its answer to ``GET /model``.

    Raises:
        ServiceFailed: It is not a description.
    """
    return _decode(
        answer.body,
        ServedModel,
        f"{url}/model does not describe a detector (status {answer.status})",
        hint="give the address of a service that seatrial serve started",
    )


def most_detections(model: ServedModel, asked: int | None) -> int:
    """Most detections that the answer to an image may have.

    Args:
        model: What is served.
        asked: What the request names.
    """
    return max(model.detection.max_detections, LEAST_DETECTIONS) if asked is None else asked


def reply_bytes(most: int) -> int:
    """Longest answer to an image.

    Args:
        most: Most detections in it.
    """
    return most * DETECTION_BYTES + BESIDE_BYTES


def read_reply(url: str, answer: HttpAnswer, most: int) -> DetectionReply:
    """The detections, from an answer to ``POST /detect`` of status 200.

    Args:
        url: Address of the service.
        answer: The answer, of at most `reply_bytes`.
        most: Most detections in it.

    Raises:
        ServiceFailed: There are none in it, or more than `most`.
    """
    wrong = f"{url}/detect answers something else"
    too_many = ServiceFailed(f"{url}/detect answers with more than the {most} detections it may")
    # Before they are made: each is an object, and a label has hardly a brace.
    if answer.body.count(b"{") > 2 * most + TIMES:
        raise too_many
    found = _decode(answer.body, _Reply, wrong)
    if len(found.detections) > most:
        raise too_many
    timing_ms = _few(found.timing_ms, dict[str, Milliseconds] | None, TIMES, TIMES_BYTES, wrong)
    warnings = _few(found.warnings, tuple[str, ...] | None, WARNINGS, WARNINGS_BYTES, wrong)
    labels = tuple(row.label for row in found.detections)
    try:
        detections = from_rows(found.detections)
    except (OverflowError, ValueError) as error:
        raise ServiceFailed(f"{wrong}: {error}") from error
    size = ImageSize(found.image.width, found.image.height)
    digest = answer.headers.get("x-model-digest", "")
    return DetectionReply(size, detections, labels, timing_ms or {}, warnings or (), digest)


def _few(raw: msgspec.Raw, kind: Any, most: int, most_bytes: int, wrong: str) -> Any:
    """A part of an answer that is short: it is measured before it is decoded."""
    data = bytes(raw)
    found = _decode(data, kind, wrong) if len(data) <= most_bytes else None
    if len(data) > most_bytes or len(found or ()) > most:
        raise ServiceFailed(f"{wrong}: more times or warnings than a service has")
    return found


def from_rows(rows: Sequence[Box]) -> Detections:
    """The rows of an answer as arrays, in their order.

    Raises:
        OverflowError: A class number is beyond 64 bits.
        ValueError: A box is beyond any image, or a confidence is not 0-1.
    """
    with np.errstate(over="ignore"):
        boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row.confidence for row in rows], np.float32)
    if not ((np.abs(boxes) <= FARTHEST).all() and ((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("a box beyond any image, or a confidence that is not 0 to 1")
    return Detections(boxes, scores, np.array([row.class_id for row in rows], np.int64))


def _decode(body: bytes, kind: type[T], wrong: str, hint: str = "") -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNDECODABLE as error:
        raise ServiceFailed(f"{wrong}: {error}", hint=hint) from error


def refusal(where: str, answer: HttpAnswer) -> SeatrialError:
    """The error that an answer stands for, of the class that the service raised.

    Args:
        where: Address that was asked.
        answer: An answer of any status but 200.

    Returns:
        `ServiceFailed` where the answer is not a service's, or has a code that is not known here.
    """
    try:
        problem = msgspec.json.decode(answer.body, type=_Failure).error
    except UNDECODABLE:
        return ServiceFailed(
            f"{where} answers {_in_words(answer)}",
            hint="a Seatrial service answers with JSON: look at the address, and at the proxy "
            "between, if there is one",
        )
    kind = CODES.get(problem.code)
    message, hint = problem.message[:MESSAGE], problem.hint[:MESSAGE]
    if kind is None:
        return ServiceFailed(f"{where} answers {answer.status}: {message}", hint=hint)
    if kind is Unauthorized:
        return needs_token(where, message)
    if kind is not Overloaded:
        return kind(message, hint=hint)
    overloaded = Overloaded(message, hint=hint, reason=problem.reason[:SHOWN])
    wait_ms = answer.headers.get("x-predicted-wait-ms", "")
    if wait_ms.isascii() and wait_ms.isdecimal() and len(wait_ms) <= WAIT_DIGITS:
        overloaded.wait_s = int(wait_ms) / 1e3
    return overloaded


def _in_words(answer: HttpAnswer) -> str:
    """Status and beginning of an answer that is not a service's."""
    try:
        words = f"{answer.status} ({http.HTTPStatus(answer.status).phrase})"
    except ValueError:
        words = str(answer.status)
    if answer.status // 100 == 3 and "location" in answer.headers:
        return f"{words}: it has moved to {answer.headers['location'][:SHOWN]}"
    begin = answer.body[:LOOKED_AT]
    text = (_title(begin) or begin).decode("utf-8", "replace")
    said = " ".join(text.split())[:SHOWN]
    return f"{words}: {said}" if said else words


def _title(page: bytes) -> bytes:
    """Text in the title of a page; empty where there is none.

    No expression: one that skips white space on both sides takes minutes on a page of blanks.
    """
    lower = page.lower()
    name = lower.find(b"<title")
    begin = lower.find(b">", name) if name >= 0 else -1
    end = lower.find(b"</title>", begin) if begin >= 0 else -1
    return page[begin + 1 : end].strip() if end >= 0 else b""
