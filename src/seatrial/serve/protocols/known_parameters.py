"""Parameters of a request of the Open Inference Protocol: which there are, at each of its levels.

They are the same over HTTP and over gRPC.

Source: Triton's pages on its extensions (binary tensor data, schedule policy), and the codecs of
MLServer's clients, which write ``content_type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput, did_you_mean
from seatrial.serve.protocols.served_models import ProtocolModel
from seatrial.serve.protocols.tensors import BYTES, Base64, Content, Elements, Json
from seatrial.serve.statistics import GRAPH

Scalar = bool | int | float | str

# Parameter of an input -> its type.
OF_INPUT: dict[str, type] = {"binary_data_size": int, "content_type": str}
# Of an output that is asked for.
OF_OUTPUT: dict[str, type] = {"binary_data": bool}
# Of the request: how tensors are read and written. Triton's own clients send the last one with each
# request of a stream: each has one answer here, so that there is nothing to switch.
OF_FORM: dict[str, type] = {
    "binary_data_output": bool,
    "content_type": str,
    "triton_enable_empty_final_response": bool,
}
# Of the request: when it is to be answered. `inference` checks their values.
OF_TURN = ("timeout", "priority")
# Of the request, where it is for the detector.
THRESHOLDS = Thresholds.__struct_fields__

# Form of a tensor's data that MLServer's clients name -> whether it is that of BYTES.
CONTENT_TYPES = {"base64": True, "np": False}
KINDS = {bool: "true or false", int: "a whole number", str: "text"}
SHOWN = 40  # characters of a name


class RequestForm(NamedTuple):
    """Parameters of a request about the form of its tensors; None where it does not say.

    Attributes:
        binary: Whether outputs are binary that say nothing themselves.
        content_type: Form of inputs that say nothing themselves.
    """

    binary: bool | None = None
    content_type: str | None = None


def check_parameters(given: Mapping[str, Scalar], known: Mapping[str, type], what: str) -> None:
    """Check the parameters of an input or output.

    Args:
        given: Its parameters.
        known: `OF_INPUT` or `OF_OUTPUT`.
        what: Names it in the error.

    Raises:
        InvalidInput: One is not known, or of another type.
    """
    for name, value in given.items():
        if name not in known:
            raise InvalidInput(
                f"{what}: the parameter {name[:SHOWN]!r} is not served",
                hint=f"known: {', '.join(known)}",
            )
        if type(value) is not known[name]:
            raise InvalidInput(f"{what}: {name} must be {KINDS[known[name]]}")


def split_form(given: Mapping[str, Scalar]) -> tuple[RequestForm, dict[str, Scalar]]:
    """The parameters of a request about the form of its tensors, and the others.

    Raises:
        InvalidInput: One of the form is of another type.
    """
    form = {name: value for name, value in given.items() if name in OF_FORM}
    check_parameters(form, OF_FORM, "parameters")
    others = {name: value for name, value in given.items() if name not in OF_FORM}
    return RequestForm(form.get("binary_data_output"), form.get("content_type")), others  # type: ignore[arg-type]


def thresholds_of(given: Mapping[str, Scalar], model: ProtocolModel) -> dict[str, Scalar]:
    """The thresholds among the parameters of a request that are not about its form.

    Raises:
        InvalidInput: A parameter is not one of the model's.
    """
    of_graph = model.kind == GRAPH
    known = (*OF_TURN, *OF_FORM) if of_graph else (*THRESHOLDS, *OF_TURN, *OF_FORM)
    hint = f"known: {', '.join(known)}"
    for name in given:
        if name in known:
            continue
        if of_graph:
            raise InvalidInput(
                f"parameters: {name[:SHOWN]!r} is not known to {model.name!r}",
                hint=f"{hint}; thresholds belong to the detector",
            )
        raise InvalidInput(
            f"parameters: {name[:SHOWN]!r} is not known",
            hint=did_you_mean(name[:SHOWN], known, otherwise=hint),
        )
    return {name: value for name, value in given.items() if name in THRESHOLDS}


def read_as(
    content: Json | Elements, content_type: Scalar | None, datatype: str, what: str
) -> Content:
    """The content of a tensor, read as its ``content_type`` says.

    Numbers are ``np``, and elements of ``BYTES`` are ``base64``: always in JSON, and elsewhere
    where the parameter says so.

    Args:
        content: The tensor's.
        content_type: The parameter of the input, otherwise that of the request.
        datatype: The tensor's.
        what: Names it in the error.

    Raises:
        InvalidInput: Tensors of that type are not read so.
    """
    if content_type is None:
        return content
    if CONTENT_TYPES.get(str(content_type)) is not (datatype == BYTES):
        known = "base64" if datatype == BYTES else "np"
        raise InvalidInput(
            f"{what}: content_type {str(content_type)[:SHOWN]!r} is not read",
            hint=f"{datatype[:SHOWN]} is read as {known}",
        )
    return content if isinstance(content, Json) or datatype != BYTES else Base64(content)
