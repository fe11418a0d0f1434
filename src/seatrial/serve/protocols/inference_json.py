"""Bodies of the Open Inference Protocol: JSON, and binary tensor data behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from seatrial.errors import InvalidInput
from seatrial.serve.protocols.inference import Call, Output, TensorAnswer, check_id
from seatrial.serve.protocols.known_parameters import (
    OF_INPUT,
    OF_OUTPUT,
    Scalar,
    check_parameters,
    read_as,
    split_form,
)
from seatrial.serve.protocols.served_models import ProtocolModel
from seatrial.serve.protocols.signatures import VERSION
from seatrial.serve.protocols.tensors import (
    BYTES,
    DTYPES,
    Binary,
    Given,
    Json,
    Whole,
)

# An object of Python is many times larger than its JSON, and this runs on the event loop: what is
# decoded is bounded before.
MOST_OBJECTS = 64
MOST_PARAMETERS_BYTES = 8 * 1024
MOST_SHAPE_BYTES = 256
MOST_SIZE = 2**53  # of one dimension: whole numbers that every JSON library reads
NOTHING = msgspec.Raw(b"null")
LENGTH_OF_JSON = "Inference-Header-Content-Length is the length of the JSON before binary data"


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: msgspec.Raw
    parameters: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: msgspec.Raw = NOTHING


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    parameters: msgspec.Raw = NOTHING
    outputs: list[_Wanted] | None = None


class Form(NamedTuple):
    """How an answer is written: the request's id, and which of the outputs are binary."""

    model: str
    id: str
    binary: frozenset[str]
    binary_otherwise: bool


def read_call(body: bytes | bytearray, json_bytes: int | None, model: str) -> tuple[Call, Form]:
    """Read the body of a request.

    Args:
        body: JSON, and behind it the data of tensors that have a ``binary_data_size``.
        json_bytes: Length of the JSON, from the header ``Inference-Header-Content-Length``; None
            where all is JSON.
        model: Name of the model, for the answer.

    Raises:
        InvalidInput: It is not of that form. Nothing is decoded that is not within bounds.
    """
    view = memoryview(body)
    if json_bytes is not None and json_bytes > len(view):
        raise InvalidInput(
            f"the JSON is said to have {json_bytes} bytes, and the body has {len(view)}",
            hint=LENGTH_OF_JSON,
        )
    text = view if json_bytes is None else view[:json_bytes]
    if text and not bytes(text[:64]).lstrip(b" \t\r\n").startswith(b"{"):
        raise InvalidInput(
            f"the request cannot be read: an object of JSON is wanted, and it starts with "
            f"{bytes(body[:8])!r}",
            hint="for a body that is an image alone, send Inference-Header-Content-Length: 0",
        )
    if body.count(b"{", 0, len(text)) > MOST_OBJECTS:
        raise InvalidInput(
            f"the JSON has more than {MOST_OBJECTS} opening braces, each of an object or in a text",
            hint=LENGTH_OF_JSON,
        )
    hint = "" if json_bytes is None else LENGTH_OF_JSON
    request: _Request = _decoded(text, _Request, "the request", hint)
    check_id(request.id or "")
    _check_model(request, model)
    request_form, parameters = split_form(_parameters(request.parameters, "the request"))
    rest = view[len(text) :]
    inputs: list[Given] = []
    for one in request.inputs:
        what = f"input {one.name[:100]!r}"
        own = _parameters(one.parameters, what)
        check_parameters(own, OF_INPUT, what)
        shape = _shape(one.shape, what)
        given, rest = _content(one, shape, own.get("binary_data_size"), rest, what)
        content_type = own.get("content_type", request_form.content_type)
        content = read_as(given, content_type, one.datatype, what)
        inputs.append(Given(one.name, one.datatype, shape, content))
    if rest:
        raise InvalidInput(
            f"{len(rest)} bytes are behind the JSON that belong to no input",
            hint="name each input's length in its parameter binary_data_size, and send "
            "Inference-Header-Content-Length",
        )
    binary_otherwise = bool(request_form.binary)
    names, binary = [], set()
    for wanted in request.outputs or ():
        what = f"output {wanted.name[:100]!r}"
        own = _parameters(wanted.parameters, what)
        check_parameters(own, OF_OUTPUT, what)
        names.append(wanted.name)
        if own.get("binary_data", binary_otherwise):
            binary.add(wanted.name)
    form = Form(model, request.id or "", frozenset(binary), binary_otherwise and not names)
    return Call(inputs, names, parameters), form


def read_whole(body: bytes | bytearray, model: ProtocolModel) -> tuple[Call, Form]:
    """Read a body that is the data of a model's only input (Triton's raw binary request).

    Of BYTES it is one element, and has no length before it. The outputs are binary.

    Raises:
        InvalidInput: The model has several inputs, or one of several free sizes, or the body is no
            whole number of rows.
    """
    if len(model.inputs) > 1:
        raise InvalidInput(
            f"model {model.name!r} has {len(model.inputs)} inputs, and the body has no JSON",
            hint="Inference-Header-Content-Length: 0 is for models with one input",
        )
    (only,) = model.inputs
    view = memoryview(body)
    if only.datatype == BYTES:
        given = Given(only.name, BYTES, (1,), Whole(view))
    elif only.shape.count(-1) > 1:
        raise InvalidInput(
            f"input {only.name!r} has the shape {list(only.shape)}, which the body does not say",
            hint="send the shape as JSON before the data",
        )
    else:
        row = math.prod(size for size in only.shape if size != -1)
        free = len(view) // (row * np.dtype(DTYPES[only.datatype]).itemsize)
        shape = tuple(free if size == -1 else size for size in only.shape)
        given = Given(only.name, only.datatype, shape, Binary(view))
    return Call([given], (), {}), Form(model.name, "", frozenset(), binary_otherwise=True)


def _check_model(request: _Request, model: str) -> None:
    """Check the model's name and version, which KServe's clients write into the body as well."""
    if request.model_name not in (None, model):
        raise InvalidInput(
            f"the request names model {request.model_name[:100]!r}, and its address {model!r}"
        )
    if request.model_version not in (None, "", VERSION):
        raise InvalidInput(
            f"model {model!r} has no version {request.model_version[:20]!r}",
            hint=f"it has: {VERSION}",
        )


def _content(
    one: _Tensor, shape: tuple[int, ...], size: Any, rest: memoryview, what: str
) -> tuple[Json | Binary, memoryview]:
    """The data of a tensor, and the binary data behind them."""
    given = bytes(memoryview(one.data)[:5]) != b"null"
    if size is None:
        if not given:
            raise InvalidInput(f"{what} has neither data nor the parameter binary_data_size")
        return Json(one.data, shape), rest
    if given:
        raise InvalidInput(f"{what} has data and the parameter binary_data_size")
    if not 0 <= size <= len(rest):
        raise InvalidInput(
            f"{what} is said to have {size} bytes of binary data, and {len(rest)} are left"
        )
    return Binary(rest[:size]), rest[size:]


def _shape(raw: msgspec.Raw, what: str) -> tuple[int, ...]:
    _check_length(raw, MOST_SHAPE_BYTES, f"the shape of {what}")
    shape: tuple[int, ...] = _decoded(raw, tuple[int, ...], f"the shape of {what}")
    if any(not 0 <= size <= MOST_SIZE for size in shape):
        raise InvalidInput(f"{what} has the shape {list(shape)[:8]}: a size is out of range")
    return shape


def _parameters(raw: msgspec.Raw, what: str) -> dict[str, Scalar]:
    _check_length(raw, MOST_PARAMETERS_BYTES, f"the parameters of {what}")
    kind = dict[str, Scalar] | None
    found: dict[str, Scalar] | None = _decoded(raw, kind, f"the parameters of {what}")
    return found or {}


def _check_length(raw: msgspec.Raw, most: int, what: str) -> None:
    if memoryview(raw).nbytes > most:
        raise InvalidInput(f"{what} are longer than {most} bytes of JSON")


def _decoded(text: Any, kind: Any, what: str, hint: str = "") -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        wrong = isinstance(error, msgspec.ValidationError)  # JSON all the same
        raise InvalidInput(f"{what} cannot be read: {error}", hint="" if wrong else hint) from error


def write_answer(answer: TensorAnswer, form: Form) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where binary data are behind it."""
    rows: list[dict[str, Any]] = []
    behind: list[bytes] = []
    warnings = list(answer.warnings)
    for one in answer.outputs:
        name, datatype, _ = one.signature
        row: dict[str, Any] = {"name": name, "datatype": datatype, "shape": one.shape}
        if form.binary_otherwise or name in form.binary:
            data = one.binary()
            row["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        else:
            row["data"] = _listed(one)
            if not isinstance(one.data, list) and not np.isfinite(one.data).all():
                warnings.append(f"output {name}: NaN and infinity are null in JSON")
        rows.append(row)
    head: dict[str, Any] = {"model_name": form.model, "model_version": VERSION}
    if form.id:
        head["id"] = form.id
    if warnings:
        head["parameters"] = {"warnings": "; ".join(warnings)}
    text = msgspec.json.encode({**head, "outputs": rows})
    return (b"".join([text, *behind]), len(text)) if behind else (text, None)


def _listed(one: Output) -> Sequence[Any]:
    if isinstance(one.data, list):
        return [element.decode() for element in one.data]
    flat = one.data.ravel()
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    listed: list[Any] = flat.tolist()
    return listed
