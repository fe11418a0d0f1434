"""Configurations of the models; `test_triton_process.py` has a server read them."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, DetectionDefaults, Limits
from seatrial.manifest import TensorSpec
from seatrial.serve.triton.backends import GraphRunner
from seatrial.serve.triton.model_config import Shape, detector_config, graph_config

PYTHON = GraphRunner("python")
ORT = GraphRunner("onnxruntime", "onnx")


def plain(**changes: Any) -> Deployment:
    return Deployment("tiny", engine="onnxruntime", **changes)


def with_open_batch(artifact: Artifact) -> Artifact:
    """The artifact with a graph that takes several images."""

    def opened(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(msgspec.structs.replace(one, shape=(-1, *one.shape[1:])) for one in specs)

    manifest = artifact.manifest
    manifest = msgspec.structs.replace(
        manifest, inputs=opened(manifest.inputs), outputs=opened(manifest.outputs)
    )
    return Artifact(artifact.path, manifest, artifact.digest)


def test_lanes_are_instances_that_detector_and_graph_share(tiny_artifact: Artifact) -> None:
    detector = detector_config(tiny_artifact, plain(), PYTHON, Shape(3, 1))
    (group,) = detector["instance_group"]  # type: ignore[misc]
    resources = {"resources": [{"name": "lane", "global": True, "count": 1}]}
    assert group == {"count": 3, "kind": "KIND_CPU", "rate_limiter": resources}
    (graph,) = graph_config(tiny_artifact, plain(), PYTHON, Shape(3, 1))["instance_group"]  # type: ignore[misc]
    assert graph == {"count": 1, "kind": "KIND_CPU", "rate_limiter": resources}


def test_where_another_model_runs_the_graph_it_has_the_lanes(tiny_artifact: Artifact) -> None:
    detector = detector_config(tiny_artifact, plain(), ORT, Shape(3, 1))
    # One decodes while the others wait for the graph. It may not hold what the graph waits for.
    assert detector["instance_group"] == [{"count": 4, "kind": "KIND_CPU"}]
    assert detector["parameters"]["graph"] == {"string_value": "tiny.graph"}  # type: ignore[index]
    assert "model_warmup" not in detector
    on_gpu = graph_config(tiny_artifact, plain(device="cuda"), ORT, Shape(2, 1))
    (group,) = on_gpu["instance_group"]  # type: ignore[misc]
    assert (group["count"], group["kind"]) == (2, "KIND_GPU")
    assert on_gpu["default_model_filename"] == "model.onnx"


def test_the_queue_is_that_of_the_limits(tiny_artifact: Artifact) -> None:
    def policy(**limits: Any) -> Any:
        deployment = plain(limits=Limits(**limits))
        found = detector_config(tiny_artifact, deployment, PYTHON, Shape(1, 1))
        return found["dynamic_batching"]["default_queue_policy"]  # type: ignore[index]

    found = policy(queue=7, deadline_s=0.25)
    assert found["max_queue_size"] == 7
    assert found["default_timeout_microseconds"] == 187_500
    assert (found["timeout_action"], found["allow_timeout_override"]) == ("REJECT", True)
    assert policy()["default_timeout_microseconds"] == 750_000


def test_a_graph_of_one_image_has_no_batches(tiny_artifact: Artifact) -> None:
    found = graph_config(tiny_artifact, plain(), ORT, Shape(1, 1, 8, 2.5))
    assert found["max_batch_size"] == 0
    assert found["input"][0]["dims"] == [1, 64, 64, 3]  # type: ignore[index]
    assert "preferred_batch_size" not in found["dynamic_batching"]  # type: ignore[operator]


def test_a_graph_of_several_images_is_given_as_many_as_the_deployment_says(
    tiny_artifact: Artifact,
) -> None:
    artifact = with_open_batch(tiny_artifact)
    found = graph_config(artifact, plain(), ORT, Shape(2, 1, 8, 2.5))
    assert found["max_batch_size"] == 8
    assert found["input"][0]["dims"] == [64, 64, 3]  # type: ignore[index]
    assert found["output"][0]["dims"] == [7, 64]  # type: ignore[index]
    batching: Any = found["dynamic_batching"]
    assert batching["preferred_batch_size"] == [8]
    assert batching["max_queue_delay_microseconds"] == 2500
    assert found["model_warmup"][0]["batch_size"] == 1  # type: ignore[index]
    # So many detectors ask for one image each.
    detector = detector_config(artifact, plain(), ORT, Shape(2, 1, 8, 2.5))
    assert detector["instance_group"] == [{"count": 17, "kind": "KIND_CPU"}]
    # Without batches the server must not choose a size by itself, as it does where it is 0.
    alone = graph_config(artifact, plain(), ORT, Shape(2, 1))
    assert alone["max_batch_size"] == 1
    assert "max_queue_delay_microseconds" not in alone["dynamic_batching"]  # type: ignore[operator]


def test_thresholds_and_environment_are_parameters(tiny_artifact: Artifact) -> None:
    deployment = plain(detection=DetectionDefaults(confidence=0.4))
    found = detector_config(tiny_artifact, deployment, PYTHON, Shape(1, 1), environment="/env.tgz")
    parameters: Any = found["parameters"]
    assert parameters["confidence"] == {"string_value": "0.4"}
    assert parameters["EXECUTION_ENV_PATH"] == {"string_value": "/env.tgz"}
    graph = graph_config(tiny_artifact, deployment, PYTHON, Shape(1, 1), environment="/env.tgz")
    assert graph["parameters"] == {"EXECUTION_ENV_PATH": {"string_value": "/env.tgz"}}
    other = graph_config(tiny_artifact, deployment, ORT, Shape(1, 1), environment="/env.tgz")
    assert "parameters" not in other
