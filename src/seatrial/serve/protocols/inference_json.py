"""Bodies of the Open Inference Protocol: JSON, and binary tensor data behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from seatrial.errors import InvalidInput
from seatrial.serve.protocols.inference import Call, Output, Scalar, TensorAnswer
from seatrial.serve.protocols.signatures import VERSION
from seatrial.serve.protocols.tensors import Binary, Content, Given, Json

# An object of Python is many times larger than its JSON, and this runs on the event loop: what is
# decoded is bounded before.
MOST_OBJECTS = 64
MOST_PARAMETERS_BYTES = 8 * 1024
MOST_SHAPE_BYTES = 256
MOST_SIZE = 2**53  # of one dimension: whole numbers that every JSON library reads
NOTHING = msgspec.Raw(b"null")


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
            hint="Inference-Header-Content-Length is the length of the JSON before binary data",
        )
    text = view if json_bytes is None else view[:json_bytes]
    if body.count(b"{", 0, len(text)) > MOST_OBJECTS:
        raise InvalidInput(f"the JSON has more than {MOST_OBJECTS} objects")
    request: _Request = _decoded(text, _Request, "the request")
    rest = view[len(text) :]
    inputs: list[Given] = []
    for one in request.inputs:
        what = f"input {one.name[:100]!r}"
        parameters = _parameters(one.parameters, what, {"binary_data_size": int})
        size = parameters.get("binary_data_size")
        content, rest = _content(one, size, rest, what)
        inputs.append(Given(one.name, one.datatype, _shape(one.shape, what), content))
    if rest:
        raise InvalidInput(
            f"{len(rest)} bytes are behind the JSON that belong to no input",
            hint="name each input's length in its parameter binary_data_size, and send "
            "Inference-Header-Content-Length",
        )
    parameters = _parameters(request.parameters, "the request", None)
    binary_otherwise = parameters.pop("binary_data_output", False)
    if not isinstance(binary_otherwise, bool):
        raise InvalidInput("parameters: binary_data_output must be true or false")
    outputs = {
        one.name: _parameters(one.parameters, f"output {one.name[:100]!r}", {"binary_data": bool})
        for one in request.outputs or ()
    }
    names = [one.name for one in request.outputs or ()]
    binary = {name for name in names if outputs[name].get("binary_data", binary_otherwise)}
    form = Form(model, request.id or "", frozenset(binary), binary_otherwise and not names)
    return Call(inputs, names, parameters), form


def _content(one: _Tensor, size: Any, rest: memoryview, what: str) -> tuple[Content, memoryview]:
    """The data of a tensor, and the binary data behind them."""
    given = bytes(memoryview(one.data)[:5]) != b"null"
    if size is None:
        if not given:
            raise InvalidInput(f"{what} has neither data nor the parameter binary_data_size")
        return Json(one.data), rest
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


def _parameters(raw: msgspec.Raw, what: str, known: Mapping[str, type] | None) -> dict[str, Any]:
    """Parameters; where it is said which there are, no others."""
    _check_length(raw, MOST_PARAMETERS_BYTES, f"the parameters of {what}")
    kind = dict[str, Scalar] | None
    found: dict[str, Any] = _decoded(raw, kind, f"the parameters of {what}") or {}
    if known is None:
        return found
    for name, value in found.items():
        if name not in known:
            raise InvalidInput(
                f"{what}: the parameter {name[:40]!r} is not served",
                hint=f"known: {', '.join(known)}",
            )
        if type(value) is not known[name]:
            raise InvalidInput(f"{what}: {name} must be {known[name].__name__}")
    return found


def _check_length(raw: msgspec.Raw, most: int, what: str) -> None:
    if memoryview(raw).nbytes > most:
        raise InvalidInput(f"{what} are longer than {most} bytes of JSON")


def _decoded(text: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be read: {error}") from error


def write_answer(answer: TensorAnswer, form: Form) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where binary data are behind it."""
    rows: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for one in answer.outputs:
        name, datatype, _ = one.signature
        row: dict[str, Any] = {"name": name, "datatype": datatype, "shape": one.shape}
        if form.binary_otherwise or name in form.binary:
            data = one.binary()
            row["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        else:
            row["data"] = _listed(one)
        rows.append(row)
    head: dict[str, Any] = {"model_name": form.model, "model_version": VERSION}
    if form.id:
        head["id"] = form.id
    if answer.warnings:
        head["parameters"] = {"warnings": "; ".join(answer.warnings)}
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
