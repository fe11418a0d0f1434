"""The module that Triton gives its Python models, as far as they use it, without a server."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

NAME = "triton_python_backend_utils"


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class TritonError:
    UNAVAILABLE, INTERNAL, INVALID_ARG = "unavailable", "internal", "invalid"

    def __init__(self, message: str, code: str = INTERNAL) -> None:
        self._message, self.code = message, code

    def message(self) -> str:
        return self._message


class InferenceResponse:
    def __init__(self, tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.tensors, self._error = {one.name(): one.as_numpy() for one in tensors}, error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class Request:
    """A request to a model."""

    def __init__(self, inputs: dict[str, Any], wanted: list[str], **parameters: object) -> None:
        self._inputs = [Tensor(name, array) for name, array in inputs.items()]
        self._wanted, self._parameters = wanted, parameters

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def requested_output_names(self) -> list[str]:
        return self._wanted

    def parameters(self) -> str:
        return json.dumps(self._parameters) if self._parameters else ""


def backend(**names: object) -> ModuleType:
    """The module, with further names in it."""
    module = ModuleType(NAME)
    vars(module).update(
        Tensor=Tensor, TritonError=TritonError, InferenceResponse=InferenceResponse, **names
    )
    module.get_input_tensor_by_name = lambda request, name: next(  # type: ignore[attr-defined]
        one for one in request.inputs() if one.name() == name
    )
    module.get_output_tensor_by_name = lambda answer, name: Tensor(name, answer.tensors[name])  # type: ignore[attr-defined]
    return module
