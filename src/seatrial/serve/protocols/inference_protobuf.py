"""Messages of the Open Inference Protocol over gRPC: calls from them, answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from seatrial.client.inference_messages import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.grpc_messages import parse
from seatrial.serve.protocols.inference import (
    LONGEST_ID,
    Call,
    Output,
    Scalar,
    TensorAnswer,
    check_id,
)
from seatrial.serve.protocols.message_size import check_size
from seatrial.serve.protocols.signatures import VERSION
from seatrial.serve.protocols.tensors import DATATYPES, Binary, Content, Given

# Type of an element -> the list of a message that holds it; FP16 has none.
LISTS = {
    "bool": "bool_contents",
    **dict.fromkeys(("int8", "int16", "int32"), "int_contents"),
    "int64": "int64_contents",
    **dict.fromkeys(("uint8", "uint16", "uint32"), "uint_contents"),
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
}
ELEMENTS = "bytes_contents"
# Parameters of streams, which Triton's own clients send with every request.
OF_STREAMS = ("triton_enable_empty_final_response",)
# Of an answer in a stream: whether it is the last one of its request. Each request has one here.
FINAL = "triton_final_response"


class Listed(NamedTuple):
    """Content as lists of numbers or bytes in a message."""

    contents: Any

    def numbers(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """See `seatrial.serve.protocols.tensors.Content.numbers`."""
        name = DATATYPES[dtype.name]
        if dtype.name not in LISTS:
            raise InvalidInput(
                f"{name} has no list in InferTensorContents", hint="send it in raw_input_contents"
            )
        found = np.array(self._list(LISTS[dtype.name], count))
        bounds = np.iinfo(dtype) if dtype.kind in "iu" else None
        if bounds and count and not bounds.min <= found.min() <= found.max() <= bounds.max:
            raise InvalidInput(f"an element is out of the range of {name}")
        return found.astype(dtype)

    @property
    def text_bytes(self) -> int:
        """See `seatrial.serve.protocols.tensors.Content.text_bytes`."""
        return 0

    def elements(self, count: int) -> list[memoryview]:
        """See `seatrial.serve.protocols.tensors.Content.elements`."""
        return [memoryview(one) for one in self._list(ELEMENTS, count)]

    def _list(self, field: str, count: int) -> Any:
        found = getattr(self.contents, field)
        if others := [one.name for one, _ in self.contents.ListFields() if one.name != field]:
            raise InvalidInput(f"the data are in {others[0]}, and belong into {field}")
        if len(found) != count:
            raise InvalidInput(f"the data have {len(found)} elements, and the shape {count}")
        return found


class MessageForm(NamedTuple):
    """How an answer is written: the request's id, and whether its tensors are raw."""

    model: str
    id: str
    raw: bool


class Named(NamedTuple):
    """Names of a request: its id, its model and the version of that, as the client said."""

    id: str
    model: str
    version: str

    @classmethod
    def of(cls, message: Any) -> Named:
        """The names of a ``ModelInferRequest``, each as far as an answer repeats it."""
        names = message.id, message.model_name, message.model_version
        return cls(*(name[:LONGEST_ID] for name in names))


def written(kind: Any, fields: Mapping[str, Any]) -> bytes:
    """The bytes of a message of a kind with some fields, as plain structures."""
    made: bytes = json_format.Parse(msgspec.json.encode(fields), kind()).SerializeToString()
    return made


def read_request(data: bytes) -> Any:
    """A ``ModelInferRequest``.

    Raises:
        InvalidInput: The bytes are none, or one that would take far more memory than its length.
    """
    check_size(data)
    return parse(ModelInferRequest, data)


def read_call(request: Any) -> tuple[Call, MessageForm]:
    """The call that a ``ModelInferRequest`` holds.

    Raises:
        InvalidInput: It contradicts itself, or has parameters that are not served.
    """
    check_id(request.id)
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(
            f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents",
            hint="send the data of each input raw, in their order, or of none",
        )
    inputs: list[Given] = []
    for index, one in enumerate(request.inputs):
        what = f"input {one.name[:100]!r}"
        _refuse_parameters(one.parameters, what)
        if raw and one.HasField("contents"):
            raise InvalidInput(f"{what} has contents, and there are raw_input_contents")
        content: Content = Binary(memoryview(raw[index])) if raw else Listed(one.contents)
        shape = tuple(one.shape)
        if any(size < 0 for size in shape):
            raise InvalidInput(f"{what} has the shape {list(shape)[:8]}: a size is out of range")
        inputs.append(Given(one.name, one.datatype, shape, content))
    for one in request.outputs:
        _refuse_parameters(one.parameters, f"output {one.name[:100]!r}")
    call = Call(inputs, [one.name for one in request.outputs], _parameters(request.parameters))
    return call, MessageForm(request.model_name, request.id, bool(raw))


def _parameters(given: Mapping[str, Any]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in given.items():
        if name in OF_STREAMS:
            continue
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInput(f"parameters: {name[:40]!r} has no value")
        found[name] = getattr(value, choice)
    return found


def _refuse_parameters(given: Mapping[str, Any], what: str) -> None:
    for name in given:
        raise InvalidInput(f"{what}: the parameter {name[:40]!r} is not served")


def write_answer(answer: TensorAnswer, form: MessageForm) -> bytes:
    """The bytes of a ``ModelInferResponse``: raw, or in lists where the request had lists.

    Tensors of FP16 are raw, and all others of their answer with them.
    """
    made = ModelInferResponse()
    _fill_answer(made, answer, form)
    data: bytes = made.SerializeToString()
    return data


def write_stream_answer(answer: TensorAnswer, form: MessageForm) -> bytes:
    """The bytes of a ``ModelStreamInferResponse``; see `write_answer`."""
    made = ModelStreamInferResponse()
    _fill_answer(made.infer_response, answer, form)
    made.infer_response.parameters[FINAL].bool_param = True
    data: bytes = made.SerializeToString()
    return data


def write_stream_error(
    text: str, named: Named | None, parameters: Iterable[tuple[str, str]]
) -> bytes:
    """The bytes of a ``ModelStreamInferResponse`` that says why a request failed.

    Args:
        text: Message of the error.
        named: What the request is called; None where its message is none.
        parameters: What programs are told of the error.
    """
    made = ModelStreamInferResponse(error_message=text)
    told = made.infer_response
    if named is not None:
        told.id, told.model_name, told.model_version = named
    for name, value in parameters:
        told.parameters[name].string_param = value
    told.parameters[FINAL].bool_param = True
    data: bytes = made.SerializeToString()
    return data


def _fill_answer(made: Any, answer: TensorAnswer, form: MessageForm) -> None:
    raw = form.raw or any(one.signature.datatype == "FP16" for one in answer.outputs)
    made.model_name, made.model_version, made.id = form.model, VERSION, form.id
    if answer.warnings:
        made.parameters["warnings"].string_param = "; ".join(answer.warnings)
    for one in answer.outputs:
        name, datatype, _ = one.signature
        tensor = made.outputs.add(name=name, datatype=datatype, shape=one.shape)
        if raw:
            made.raw_output_contents.append(one.binary())
        else:
            _fill(tensor.contents, one)


def _fill(contents: Any, one: Output) -> None:
    values: Sequence[Any]
    if isinstance(one.data, list):
        field, values = ELEMENTS, one.data
    else:
        field, values = LISTS[one.data.dtype.name], one.data.ravel().tolist()
    getattr(contents, field).extend(values)
