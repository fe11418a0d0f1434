"""Messages of the Open Inference Protocol over gRPC, from the descriptors that programs load.

They are in a pool of their own: a program may have the messages of another library of the same
names, such as tritonclient's, in protobuf's own pool, where a name is there once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
STREAM = f"/{SERVICE}/ModelStreamInfer"
COMPILED = Path(__file__).with_name("open_inference.binpb")  # by scripts/protos


def add_files(pool: Any, data: bytes) -> None:
    """Add the files of a set of descriptors to a pool."""
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)


POOL = descriptor_pool.DescriptorPool()
add_files(POOL, COMPILED.read_bytes())


def message(name: str) -> Any:
    """The class of a message by its name in the protocol, such as ``ModelInferRequest``."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


def methods() -> dict[str, tuple[Any, Any]]:
    """The methods of the service: name -> classes of its request and of its answer."""
    found = POOL.FindServiceByName(SERVICE).methods
    return {
        one.name: (message(one.input_type.name), message(one.output_type.name)) for one in found
    }


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelStreamInferResponse = message("ModelStreamInferResponse")
