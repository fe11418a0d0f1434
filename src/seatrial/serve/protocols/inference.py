"""One request of the Open Inference Protocol, whatever carries it: tensors in, tensors out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray
from starlette.types import Message

from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected
from seatrial.errors import InvalidInput, did_you_mean
from seatrial.serve.asked import Asked
from seatrial.serve.protocols.known_parameters import Scalar, thresholds_of
from seatrial.serve.protocols.off_loop import read_off_loop
from seatrial.serve.protocols.served_models import ProtocolModel
from seatrial.serve.protocols.signatures import FOUND, found_tensors
from seatrial.serve.protocols.tensors import BYTES, Given, Signature, bytes_tensor
from seatrial.serve.protocols.thresholds import request_options
from seatrial.serve.service import Service
from seatrial.serve.side_by_side import detect_images
from seatrial.serve.statistics import DETECTOR, GRAPH
from seatrial.serve.tickets import Admitted

PRIORITIES = {0: False, 1: False, 2: True}  # whether it is of a batch; 0 is the default
LONGEST_ID = 1000  # characters: an answer repeats the id, and a body that is packed names any


class Call(NamedTuple):
    """A request: its tensors, the names of the outputs that it wants, and its parameters.

    Those about the form of tensors are not among these.
    """

    inputs: Sequence[Given]
    outputs: Sequence[str]
    parameters: Mapping[str, Scalar]


class Output(NamedTuple):
    """A tensor of the answer: an array, or the elements of BYTES."""

    signature: Signature
    data: NDArray[Any] | list[bytes]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return (len(self.data),) if isinstance(self.data, list) else self.data.shape

    def binary(self) -> bytes:
        """Its data as the binary extension and raw contents have them: see `Binary`."""
        if isinstance(self.data, list):
            return bytes_tensor(self.data)
        return self.data.astype(self.data.dtype.newbyteorder("<"), copy=False).tobytes()


class TensorAnswer(NamedTuple):
    """Answer to a call: tensors, and what is odd about the images."""

    outputs: list[Output]
    warnings: Sequence[str] = ()


# Writes an answer as the transport has it.
Encode = Callable[[TensorAnswer], Any]


async def infer(
    service: Service,
    ticket: Admitted,
    model: ProtocolModel,
    call: Call,
    encode: Encode,
    gone: asyncio.Future[Message],
) -> tuple[Any, dict[str, float]]:
    """Answer a call.

    Args:
        service: What answers.
        ticket: The request's, held; its body is here.
        model: See `seatrial.serve.protocols.served_models.find_model`.
        call: The request.
        encode: Writes the answer; runs off the event loop.
        gone: Done when the client goes away.

    Returns:
        What `encode` made, and the time of each stage, milliseconds.

    Raises:
        InvalidInput: The call does not fit the model, or an image is none.
        Overloaded: It would not be answered in time.
        DeadlineExceeded: It was not.
        Abandoned: The client went away.
    """
    _ask(service, ticket, call.parameters)
    thresholds = thresholds_of(call.parameters, model)
    wanted = _wanted(model, call.outputs)
    given = _given(model, call.inputs)
    if model.kind == GRAPH:
        return await _run_graph(service, ticket, model, given, wanted, encode, gone)
    dispatcher = service.dispatcher
    options = request_options(thresholds, service.detection, dispatcher.limits.detections)
    reading = partial(_images, given[0], dispatcher.limits.images)
    images = await read_off_loop(given[0].content.text_bytes, reading)
    if len(images) > 1:
        return await _detect_all(service, ticket, images, options, wanted, encode, gone)

    def work() -> tuple[Any, dict[str, float]]:
        result = dispatcher.detect(ticket, images[0], options)
        body = encode(_answer(service, [(result.detections, result.warnings)], wanted))
        ticket.clock.lap("encode")
        timing_ms = ticket.clock.timing_ms()
        service.metrics.observe(timing_ms, len(result.detections), result.lane_threads)
        service.metrics.received(len(images[0]), result.image.shape[0] * result.image.shape[1])
        return body, timing_ms

    return await dispatcher.work(ticket, work, gone)


async def _run_graph(
    service: Service,
    ticket: Admitted,
    model: ProtocolModel,
    given: Sequence[Given],
    wanted: Sequence[str],
    encode: Encode,
    gone: asyncio.Future[Message],
) -> tuple[Any, dict[str, float]]:
    def work() -> tuple[Any, dict[str, float]]:
        feeds = {
            one.name: one.array(signature)
            for one, signature in zip(given, model.inputs, strict=True)
        }
        ticket.clock.lap("decode")
        found, threads = service.dispatcher.detector.infer(feeds, ticket)
        outputs = [Output(one, found[one.name]) for one in model.outputs if one.name in wanted]
        body = encode(TensorAnswer(outputs))
        ticket.clock.lap("encode")
        timing_ms = ticket.clock.timing_ms()
        service.metrics.observe(timing_ms, 0, threads, GRAPH)
        return body, timing_ms

    return await service.dispatcher.work(ticket, work, gone)


async def _detect_all(
    service: Service,
    ticket: Admitted,
    images: Sequence[memoryview],
    options: Any,
    wanted: Sequence[str],
    encode: Encode,
    gone: asyncio.Future[Message],
) -> tuple[Any, dict[str, float]]:
    metrics, clock = service.metrics, ticket.clock

    def finish(
        result: Detected, own: Admitted, image: memoryview
    ) -> tuple[Detections, tuple[str, ...]]:
        metrics.observe_image(
            dict(own.clock.stages_ms), len(result.detections), result.lane_threads
        )
        metrics.received(len(image), result.image.shape[0] * result.image.shape[1])
        return result.detections, result.warnings  # not the pixels

    found = await detect_images(service.dispatcher, ticket, images, options, finish, gone)
    clock.lap("images")  # stages of several images at the same time; `finish` has them
    body = await asyncio.to_thread(partial(encode, _answer(service, found, wanted)))
    clock.lap("encode")
    timing_ms = clock.timing_ms()
    metrics.observe_stages(timing_ms)
    metrics.models.answered(DETECTOR)
    return body, timing_ms


def _ask(service: Service, ticket: Admitted, parameters: Mapping[str, Scalar]) -> None:
    """Take deadline and priority from the parameters."""
    priority, timeout = parameters.get("priority", 0), parameters.get("timeout", 0)
    if isinstance(priority, bool) or priority not in PRIORITIES:
        raise InvalidInput(
            f"parameters: priority must be 0, 1 or 2, not {str(priority)[:40]}",
            hint="1 is live, 2 is batch, 0 is the default: live",
        )
    most = service.dispatcher.limits.longest_deadline_s * 1e6
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 <= timeout <= most:
        raise InvalidInput(
            f"parameters: timeout must be a whole number of microseconds from 0 to {most:.0f}",
            hint="0 takes the deployment's deadline",
        )
    ticket.ask(Asked(deadline_s=timeout / 1e6 if timeout else None, batch=PRIORITIES[priority]))  # type: ignore[index]


def _given(model: ProtocolModel, inputs: Sequence[Given]) -> list[Given]:
    """The tensors in the order of the model's inputs."""
    known = [one.name for one in model.inputs]
    for index, one in enumerate(inputs):
        if one.name not in known:
            raise InvalidInput(
                f"model {model.name!r} has no input {one.name[:100]!r}",
                hint=did_you_mean(one.name[:100], known, otherwise=f"it has: {', '.join(known)}"),
            )
        if any(one.name == other.name for other in inputs[:index]):
            raise InvalidInput(f"input {one.name!r} is given twice")
    by_name = {one.name: one for one in inputs}
    if missing := [name for name in known if name not in by_name]:
        raise InvalidInput(f"input {missing[0]!r} of model {model.name!r} is missing")
    return [by_name[name] for name in known]


def _wanted(model: ProtocolModel, names: Sequence[str]) -> Sequence[str]:
    """The names of the outputs that are wanted: all where none is named."""
    known = [one.name for one in model.outputs]
    for index, name in enumerate(names):
        if name not in known:
            raise InvalidInput(
                f"model {model.name!r} has no output {name[:100]!r}",
                hint=did_you_mean(name[:100], known, otherwise=f"it has: {', '.join(known)}"),
            )
        if name in names[:index]:
            raise InvalidInput(f"output {name!r} is asked for twice")
    return names or known


def check_id(given: str) -> None:
    """Check the id that a client gives to its request.

    Raises:
        InvalidInput: It is longer than `LONGEST_ID`.
    """
    if len(given) > LONGEST_ID:
        raise InvalidInput(
            f"the id has {len(given)} characters; at most {LONGEST_ID} are taken",
            hint="send a shorter one",
        )


def _images(given: Given, most: int) -> list[memoryview]:
    """The encoded images of the input `IMAGE`: [N], or [N, 1]."""
    if given.datatype != BYTES:
        raise InvalidInput(
            f"input {given.name!r} is {given.datatype[:40]}, and the model takes BYTES",
            hint="send each image as an encoded JPEG, PNG or WebP file",
        )
    count = math.prod(given.shape)
    if len(given.shape) not in (1, 2) or given.shape[1:] not in ((), (1,)) or count < 1:
        raise InvalidInput(
            f"input {given.name!r} has the shape {list(given.shape)[:8]}, and the model takes [N]",
            hint="N is the number of images, 1 or more",
        )
    if count > most:
        raise InvalidInput(
            f"{count} images are more than the {most} that a request may have",
            hint="send fewer at a time, or raise limits.images of the deployment",
        )
    images = given.content.elements(count)
    if empty := [index for index, image in enumerate(images) if not image]:
        raise InvalidInput(
            f"image {empty[0]} is empty (0 bytes)", hint="send the content of the file"
        )
    return images


def _answer(
    service: Service, found: Sequence[tuple[Detections, Sequence[str]]], wanted: Sequence[str]
) -> TensorAnswer:
    """The answer of the detector, see `found_tensors`."""
    labels = service.dispatcher.detector.artifact.manifest.labels
    data = found_tensors([detections for detections, _ in found], labels)
    return TensorAnswer(
        [
            Output(signature, data[signature.name])
            for signature in FOUND
            if signature.name in wanted
        ],
        [f"image {index}: {text}" for index, (_, odd) in enumerate(found) for text in odd],
    )
