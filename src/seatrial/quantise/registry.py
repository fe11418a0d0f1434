"""The table of backends of quantisation. A new one is a new file and a line here."""

from __future__ import annotations

import importlib
from typing import cast

from seatrial.errors import InvalidConfig
from seatrial.quantise.backend import Backend

BACKENDS = {
    "openvino": "seatrial.quantise.openvino_nncf:OpenVinoBackend",
    "onnxruntime": "seatrial.quantise.onnx_qdq:OnnxRuntimeBackend",
    "tensorrt": "seatrial.quantise.onnx_qdq:TensorRtBackend",
}


def open_backend(name: str) -> Backend:
    """A backend by its name in the table.

    Raises:
        InvalidConfig: No such backend.
    """
    if name not in BACKENDS:
        raise InvalidConfig(f"unknown target {name!r}", hint=f"known: {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    return cast(Backend, getattr(importlib.import_module(module), attribute)())
