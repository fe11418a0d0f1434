"""A Triton, or another server of the Open Inference Protocol, as the subject of an evaluation.

Such a server does not describe a detector. A model of ``seatrial package triton`` has what an
evaluation needs in the parameters of its configuration: classes, digest, engine.
"""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.accuracy.predict import SeenImage
from seatrial.accuracy.service import RemoteDetector
from seatrial.client.calls import Call, Send
from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_tensors import read_tensors
from seatrial.client.inference_wire import GRPC, ModelName, image_request
from seatrial.client.wire import MESSAGE, HttpAnswer, ServedLayout, ServedModel
from seatrial.config import UNDECODABLE
from seatrial.deployment import Thresholds
from seatrial.detect.answer import ImageSize
from seatrial.detect.decode import decoded_size
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InvalidConfig, InvalidInput, ServiceFailed

INDEX = "/v2/repository/index"
IMAGE, FOUND = "image", ("boxes", "scores", "class_ids")
REFUSED = 400


class _Named(msgspec.Struct):
    name: str


class _Text(msgspec.Struct):
    string_value: str = ""


class _Instances(msgspec.Struct):
    count: int = 1


class _Config(msgspec.Struct):
    parameters: dict[str, _Text] = {}
    instance_group: tuple[_Instances, ...] = ()


class _NoInference(ServiceFailed):
    """The service does not speak the protocol."""


class RemoteInference(RemoteDetector):
    """A running server of the Open Inference Protocol; see `RemoteDetector`.

    Args:
        url: Scheme, host and port, ``http://127.0.0.1:3000``.
        model: Name and version of the model; None: the first that says its classes.
        credentials: What the service wants to see.

    Attributes:
        named: Name and version of the model that is asked.

    Raises:
        InvalidConfig: Not an http(s) address.
        MissingExtra: httpcore is not installed.
        ServiceFailed: There is no service, or no model that says its classes.
    """

    named: ModelName

    def __init__(
        self, url: str, model: ModelName | None = None, *, credentials: Credentials = NONE
    ) -> None:
        self._wanted = model
        super().__init__(url, credentials=credentials)

    def _asked(self) -> Call[ServedModel]:
        """The question which models there are, and what they say of themselves."""
        listed = yield from self._index()
        models = listed if self._wanted is None else [self._wanted]
        for model in models:
            answer = yield from self._ask("GET", f"{model.path}/config")
            if (config := _read(answer, _Config)) and (found := _described(model.name, config)):
                self.named = model
                return found
        asked = ", ".join(one.name for one in models) or "none"
        raise ServiceFailed(
            f"no model at {self._calls.url} says its classes (asked: {asked})",
            hint="Accuracy needs a model written by this version's seatrial package triton; "
            "latency and load do not",
        )

    def _index(self) -> Call[list[ModelName]]:
        answer = yield from self._ask("POST", INDEX, b"{}")
        found = _read(answer, list[_Named])
        if found is None:
            raise _NoInference(f"{self._calls.url}{INDEX} answers {answer.status}")
        return [ModelName(name) for name in dict.fromkeys(one.name for one in found)]

    def _ask(self, method: str, path: str, body: bytes = b"") -> Call[HttpAnswer]:
        deadline = self._calls.deadline()
        headers = {"Content-Type": "application/json"} if body else {}
        request = Send(method, path, deadline.at, headers, body)
        return (yield from self._calls.exchange(request, deadline, retries=1))

    def detect(self, data: bytes, rules: Thresholds) -> SeenImage:
        """See `Subject.detect`; the size of the image is not in an answer, and is read here."""
        odd: list[str] = []
        width, height = decoded_size(data, max_pixels=MAX_PIXELS, on_warning=odd.append)
        deadline = self._calls.deadline()
        headers, body = image_request(
            IMAGE, [1], data, outputs=FOUND, parameters=msgspec.structs.asdict(rules)
        )
        path = self.named.infer_path
        request = Send("POST", path, deadline.at, headers, body)
        answer = self._connections.run(self._calls.exchange(request, deadline))
        where = f"{self._calls.url}{path}"
        if answer.status == REFUSED and self._is_ready():
            raise InvalidInput(_reason(answer))
        if answer.status != 200:
            raise ServiceFailed(f"{where} answers {answer.status}: {_reason(answer)}")
        boxes, scores, class_ids = read_tensors(where, answer.headers, answer.body, FOUND)
        try:
            found = Detections(boxes, scores, class_ids)
        except ValueError as error:
            raise ServiceFailed(f"{where} answers something else: {error}") from error
        return SeenImage(ImageSize(width, height), found, {}, tuple(odd))

    def _is_ready(self) -> bool:
        """Whether the model is still there: a server refuses images of one that is not, too."""
        return self._connections.run(self._ask("GET", f"{self.named.path}/ready")).status == 200


def running_subject(
    url: str, model: ModelName | None = None, *, credentials: Credentials = NONE
) -> RemoteDetector:
    """A running service, of ours or of the Open Inference Protocol alone, for an evaluation.

    Args:
        url: Scheme, host and port.
        model: Name and version of the model in the protocol; None: see `RemoteInference`.
        credentials: What the service wants to see.

    Raises:
        InvalidConfig: Not an http(s) address.
        MissingExtra: httpcore is not installed.
        ServiceFailed: There is no service, or it does not describe a detector.
        Unauthorized: It wants a token.
    """
    if url.partition("://")[0] in GRPC:
        raise InvalidConfig(
            f"accuracy is measured over HTTP, and {url} is an address of gRPC",
            hint="give the service's address of HTTP, for example http://127.0.0.1:3000",
        )
    try:
        return RemoteDetector(url, credentials=credentials, patient=True)
    except ServiceFailed as error:
        try:
            return RemoteInference(url, model, credentials=credentials)
        except _NoInference:
            raise error from None


def _described(name: str, config: _Config) -> ServedModel | None:
    """The description that a model gives of itself; None where it does not say its classes."""
    told = {key: one.string_value for key, one in config.parameters.items()}
    instances = sum(one.count for one in config.instance_group)
    try:
        return ServedModel(
            name=name,
            digest=told["digest"],
            labels=msgspec.json.decode(told["labels"], type=tuple[str, ...]),
            engine=told["engine"],
            device=told["device"],
            precision=told["precision"],
            layout=ServedLayout(1, max(1, instances)),
        )
    except (*UNDECODABLE, KeyError):
        return None


def _read(answer: HttpAnswer, kind: Any, status: int | None = 200) -> Any:
    """The body of an answer as a struct; None where it is none, or the status is another one."""
    if status not in (None, answer.status):
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except UNDECODABLE:
        return None


def _reason(answer: HttpAnswer) -> str:
    found = _read(answer, dict[str, Any], status=None) or {}
    return str(found.get("error") or "no reason given")[:MESSAGE]
