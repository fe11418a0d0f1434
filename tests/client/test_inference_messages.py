"""The messages that programs load are those of the file that people read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool

from seatrial.client.inference_messages import COMPILED, SERVICE, message, methods

ROOT = Path(__file__).parents[2]


def test_they_are_compiled_from_the_source() -> None:
    script = ROOT / "scripts" / "protos"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_method_has_its_messages() -> None:
    assert {"ServerLive", "ModelInfer", "ModelConfig", "ModelStatistics"} <= {*methods()}
    for name, (asked, told) in methods().items():
        one = name.replace("Stream", "")  # each message of a stream is a request of its own
        assert asked.DESCRIPTOR.full_name == f"inference.{one}Request"
        assert told.DESCRIPTOR.full_name == f"inference.{name}Response"


def test_messages_of_the_same_names_in_protobufs_own_pool_do_not_meet_them() -> None:
    """As a program has them that imports tritonclient too."""
    other = descriptor_pb2.FileDescriptorProto(
        name="grpc_service.proto", package="inference", syntax="proto3"
    )
    other.message_type.add(name="ModelInferRequest")
    other.service.add(name=SERVICE.rpartition(".")[2])
    descriptor_pool.Default().Add(other)
    descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
    request = message("ModelInferRequest")(model_name="tiny")
    assert request.SerializeToString() == b"\n\x04tiny"
    assert COMPILED.is_file()
