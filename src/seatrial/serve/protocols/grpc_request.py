"""One request of the Open Inference Protocol over gRPC, from its message to its answer.

The message may be that of a call, or one of many of a stream.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from seatrial.errors import InputTooLarge
from seatrial.serve.outcome import Counted, answer_headers
from seatrial.serve.protocols.inference import Call, TensorAnswer, infer
from seatrial.serve.protocols.inference_protobuf import Listed, MessageForm, read_call
from seatrial.serve.protocols.served_models import ProtocolModel, find_model
from seatrial.serve.protocols.tensors import BYTES, LENGTH, Base64, Binary, Given
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import GRAPH
from seatrial.serve.tickets import Admitted
from seatrial.serve.variants import LIVE

Write = Callable[[TensorAnswer, MessageForm], bytes]


class Request(NamedTuple):
    """A request whose message is read.

    Attributes:
        model: The model that it names.
        call: Its tensors and parameters.
        form: How its answer is written.
        body_bytes: Length of its message.
    """

    model: ProtocolModel
    call: Call
    form: MessageForm
    body_bytes: int


def open_request(service: Service, outcome: Counted, message: Any, body_bytes: int) -> Request:
    """The request that a parsed ``ModelInferRequest`` is.

    Args:
        service: What answers.
        outcome: Is told which model it is of.
        message: The message; nothing of it is kept.
        body_bytes: Its length.

    Raises:
        NotServed: There is no such model.
        InputTooLarge: Its images or tensors are over `Limits.body_bytes`.
        InvalidInput: See `read_call`.
    """
    outcome.model = None
    model = find_model(service, message.model_name, message.model_version)
    outcome.model = model.kind
    call, form = read_call(message)
    check_length(call.inputs, service.dispatcher.limits.body_bytes)
    return Request(model, call, form, body_bytes)


def check_length(inputs: Iterable[Given], limit_bytes: int) -> None:
    """Compare what a message holds with the limit of a body, as over HTTP.

    The message may be longer: by names, shapes, and the lengths between its parts.

    Args:
        inputs: The tensors of a request.
        limit_bytes: Most bytes of all of them together.

    Raises:
        InputTooLarge: They are longer.
    """
    size = sum(map(_content_bytes, inputs))
    if size > limit_bytes:
        raise InputTooLarge(
            f"the images or tensors of the message have {size} bytes, and at most {limit_bytes} "
            "are taken",
            hint="send a smaller file, or raise limits.body_bytes",
        )


def _content_bytes(given: Given) -> int:
    # Base64 counts with its own length, as in JSON.
    content = given.content.content if isinstance(given.content, Base64) else given.content
    if isinstance(content, Binary):
        lengths = LENGTH.size * math.prod(given.shape[:8]) if given.datatype == BYTES else 0
        return max(0, content.data.nbytes - lengths)
    contents = cast(Listed, content).contents  # a message has no other
    elements = contents.bytes_contents
    return sum(map(len, elements)) if elements else contents.ByteSize()


async def infer_request(
    serving: Serving,
    service: Service,
    outcome: Counted,
    ticket: Admitted,
    request: Request,
    write: Write,
) -> tuple[bytes, dict[str, str]]:
    """Answer a request.

    Args:
        serving: Holds the live service.
        service: What answers; tensors go to the live one.
        outcome: Is told where that is another one.
        ticket: The request's, held; its message is here.
        request: The request.
        write: Writes the answer; runs off the event loop.

    Returns:
        The answer's message, and its headers as over HTTP.

    Raises:
        SeatrialError: See `infer`.
    """
    if request.model.kind != GRAPH or service.variant == LIVE:
        return await _infer(service, ticket, request, write)
    # Tensors fit one graph; another artifact may have others. Only the message names the model.
    live = serving.live
    outcome.variant = LIVE
    request = request._replace(model=find_model(live, request.model.name))
    with live.dispatcher.admit_from(ticket, request.body_bytes) as own:
        return await _infer(live, own, request, write)


async def _infer(
    service: Service, ticket: Admitted, request: Request, write: Write
) -> tuple[bytes, dict[str, str]]:

    def encode(answer: TensorAnswer) -> bytes:
        return write(answer, request.form)

    # A client that leaves cancels the task.
    gone = asyncio.get_running_loop().create_future()
    data, timing_ms = await infer(service, ticket, request.model, request.call, encode, gone)
    return data, answer_headers(service, timing_ms, ticket)
