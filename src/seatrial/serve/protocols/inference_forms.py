"""The JSON of the Open Inference Protocol as structs, for the interface's description.

Requests are read by `seatrial.serve.protocols.inference_json`, which looks at sizes before it
decodes anything. A test holds its structs, and all answers, to the forms here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from seatrial.serve.protocols.inference import LONGEST_ID
from seatrial.serve.protocols.known_parameters import Scalar

Size = Annotated[int, msgspec.Meta(ge=0)]
Parameters = dict[str, Scalar]
Text = Annotated[str, msgspec.Meta(max_length=LONGEST_ID)]


class ServerLive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server is alive."""

    live: bool = True


class ServerReady(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server is ready.

    Attributes:
        live: Name of the same in the protocol's text.
        ready: Its name in the interface by KServe, whose clients read it.
    """

    live: bool = True
    ready: bool = True


class ModelReady(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model is ready."""

    name: str
    ready: bool = True


class ServerMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server: its name, version and extensions of the protocol."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of a model.

    Attributes:
        name: Name of the input or output.
        datatype: ``FP32``, ``BYTES`` and the like.
        shape: Sizes; -1 where any size will do.
    """

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model: its inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in the repository's index."""

    name: str
    version: str
    state: str
    reason: str


class ModelConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's configuration as Triton writes it.

    Attributes:
        max_batch_size: 0: the first dimension counts images, and is a dimension like others.
        parameters: Thresholds where a request names none; of the detector alone.
    """

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]
    instance_group: list[dict[str, Any]]
    model_transaction_policy: dict[str, Any]
    parameters: dict[str, dict[str, str]] = {}


class PhaseStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of times and nanoseconds of a phase, together."""

    count: Size
    ns: Size


class ModelStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work of a model since the service started, in all of its processes."""

    name: str
    version: str
    last_inference: Size
    inference_count: Size
    execution_count: Size
    inference_stats: dict[str, PhaseStatistics]
    batch_stats: list[dict[str, Any]]
    memory_usage: list[dict[str, Any]]


class StatisticsAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statistics of one model, or of all."""

    model_stats: list[ModelStatistics]


class InputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input of a request.

    Attributes:
        shape: Sizes; their product is the number of elements.
        parameters: ``binary_data_size``: length of the data behind the JSON; ``content_type``:
            ``base64`` for ``BYTES``, otherwise ``np``.
        data: Elements, nested as the shape or flat; of ``BYTES`` as base64.
    """

    name: Text
    datatype: Text
    shape: list[Size]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class WantedOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An output that is asked for.

    Attributes:
        parameters: ``binary_data``: whether its data are to come behind the JSON.
    """

    name: Text
    parameters: Parameters | None = None


class InferenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request: tensors, or encoded images.

    Attributes:
        model_name: That of the address.
        model_version: That of the address.
        parameters: ``timeout`` (microseconds), ``priority`` (1 live, 2 batch),
            ``binary_data_output``, ``content_type`` of inputs that name none, and thresholds.
        outputs: Outputs that are asked for; all where there are none.
    """

    inputs: list[InputTensor]
    id: Text | None = None
    parameters: Parameters | None = None
    outputs: list[WantedOutput] | None = None
    model_name: Text | None = None
    model_version: Text | None = None


class OutputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An output of an answer; data that are binary are behind the JSON."""

    name: str
    datatype: str
    shape: list[Size]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class InferenceAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The answer to a request.

    Attributes:
        parameters: ``warnings``: what is odd about images that can be used all the same.
    """

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None
    parameters: Parameters | None = None
