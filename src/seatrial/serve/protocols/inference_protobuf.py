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
    TensorAnswer,
    check_id,
)
from seatrial.serve.protocols.known_parameters import (
    OF_INPUT,
    OF_OUTPUT,
    Scalar,
    check_parameters,
    read_as,
    split_form,
)
from seatrial.serve.protocols.message_size import check_size
from seatrial.serve.protocols.signatures import VERSION
from seatrial.serve.protocols.tensors import DATATYPES, Binary, Given

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

    @property
    def element_bytes(self) -> int:
        """See `seatrial.serve.protocols.tensors.Elements.element_bytes`."""
        return sum(len(one) for one in self.contents.bytes_contents)

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
    """How an answer is written: the request's id, and whether its tensors are raw.

    They are where those of the request are, unless it says otherwise.
    """

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
    form, parameters = split_form(_parameters(request.parameters, "parameters"))
    inputs: list[Given] = []
    for index, one in enumerate(request.inputs):
        what = f"input {one.name[:100]!r}"
        own = _parameters(one.parameters, what)
        check_parameters(own, OF_INPUT, what)
        if raw and one.contents.ListFields():  # MLServer writes empty contents beside raw ones
            raise InvalidInput(f"{what} has contents, and there are raw_input_contents")
        _check_binary_data_size(own.get("binary_data_size"), raw[index] if raw else None, what)
        given = Binary(memoryview(raw[index])) if raw else Listed(one.contents)
        content_type = own.get("content_type", form.content_type)
        content = read_as(given, content_type, one.datatype, what)
        shape = tuple(one.shape)
        if any(size < 0 for size in shape):
            raise InvalidInput(f"{what} has the shape {list(shape)[:8]}: a size is out of range")
        inputs.append(Given(one.name, one.datatype, shape, content))
    binary = []
    for one in request.outputs:
        what = f"output {one.name[:100]!r}"
        own = _parameters(one.parameters, what)
        check_parameters(own, OF_OUTPUT, what)
        binary.append(own.get("binary_data", form.binary))
    # The outputs of a message are all raw, or none: one that is to be makes all of them so.
    answer_raw = any(bool(raw) if one is None else one for one in binary or [form.binary])
    call = Call(inputs, [one.name for one in request.outputs], parameters)
    return call, MessageForm(request.model_name, request.id, answer_raw)


def _parameters(given: Mapping[str, Any], what: str) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInput(f"{what}: {name[:40]!r} has no value")
        found[name] = getattr(value, choice)
    return found


def _check_binary_data_size(given: Scalar | None, raw: bytes | None, what: str) -> None:
    """Check the length that KServe's client writes beside raw contents as well."""
    if given is None:
        return
    if raw is None:
        raise InvalidInput(
            f"{what} has the parameter binary_data_size, and there are no raw_input_contents"
        )
    if given != len(raw):
        raise InvalidInput(
            f"{what} is said to have {given} bytes of binary data, and its raw_input_contents "
            f"have {len(raw)}"
        )


def write_answer(answer: TensorAnswer, form: MessageForm) -> bytes:
    """The bytes of a ``ModelInferResponse``: raw or in lists, as its form says.

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
