"""Configurations as a real Triton server reads them: other backends, and a broken model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Batching, CoreLayout, Deployment, Triton
from seatrial.errors import ServiceFailed
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.runtimes import triton_process
from seatrial.serve.triton.repository import write_repository
from seatrial.serve.triton.server import TritonServer, find_server
from triton_serving import ENGINE, ask, deployment_of, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("time_limit")]

# Backends that the wheel does not have -> deployments whose graph they run.
OTHER_BACKENDS: dict[str, list[dict[str, Any]]] = {
    "onnxruntime": [
        {"engine": "onnxruntime"},
        {"engine": "onnxruntime", "device": "cuda"},
        {"engine": "onnxruntime-tensorrt", "device": "cuda", "precision": "f16"},
    ],
    "openvino": [{"engine": "openvino"}, {"engine": "openvino", "precision": "bf16"}],
    "tensorrt": [{"engine": "tensorrt"}, {"engine": "tensorrt", "device": "cuda"}],
}


@pytest.fixture(scope="module")
def others(
    tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Graphs of those deployments -> their folders, which lie in one repository without detectors.

    The graph takes any number of images, so that batches are configured as well.
    """
    folder = tmp_path_factory.mktemp("others")
    repository, found = folder / "repository", {}
    batch = Batching(max_batch=4, max_delay_ms=2.0)
    for backend, deployments in OTHER_BACKENDS.items():
        for index, changes in enumerate(deployments):
            artifact = open_artifact(tiny_model, folder / f"{backend}{index}", backend)
            deployment = deployment_of(artifact, batching=batch, **changes)
            write_repository(repository, artifact, deployment, backend=backend)
            name = artifact.manifest.name
            shutil.rmtree(repository / name)
            found[f"{name}.graph"] = repository / f"{name}.graph"
    return found


def open_artifact(tiny_model: Callable[..., Any], folder: Path, backend: str) -> Artifact:
    """A detector of an open batch; for tensorrt, with a file in the place of an engine's."""
    folder.mkdir()
    onnx.save(tiny_model(batch="N"), folder / "model.onnx")
    store = Store(folder / "store")
    artifact = import_onnx(store, folder / "model.onnx", name=folder.name)
    if backend != "tensorrt":
        return artifact
    formats = {**artifact.manifest.formats, "tensorrt": "model.plan"}
    manifest = msgspec.structs.replace(artifact.manifest, formats=formats, files=())
    second = Store(folder / "second")
    with second.staging() as staged:
        for file in artifact.manifest.files:
            (staged / file.path).write_bytes((artifact.path / file.path).read_bytes())
        (staged / "model.plan").write_bytes(b"an engine of TensorRT, made on another machine")
        return second.commit(staged, manifest)


@pytest.fixture(scope="module")
def server(triton_python: Path, tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    deployment = Deployment("tiny", engine=ENGINE, triton=Triton(python=str(triton_python)))
    return find_server(tmp_path_factory.mktemp("server"), deployment)


def test_the_text_is_read_by_tritons_own_definition(
    triton_python: Path, tiny_artifact: Artifact, others: dict[str, Path], tmp_path: Path
) -> None:
    two = deployment_of(tiny_artifact, layout=CoreLayout(workers=1, instances=2, threads=1))
    write_repository(tmp_path / "own", tiny_artifact, two, backend="python")
    write_repository(
        tmp_path / "other", tiny_artifact, deployment_of(tiny_artifact), backend=ENGINE
    )
    texts = [
        tmp_path / "own" / "tiny" / "config.pbtxt",
        tmp_path / "other" / "tiny.graph" / "config.pbtxt",
        *(folder / "config.pbtxt" for folder in others.values()),
    ]
    detector, graph, *rest = ask(triton_python, free_ports(), "parse", *texts)["parsed"]
    assert detector["instance_group"][0]["count"] == 2
    assert graph["backend"] == ENGINE
    assert graph["default_model_filename"] == "model.onnx"
    assert graph["parameters"]["intra_op_thread_count"] == {"string_value": "1"}
    found = dict(zip(others, rest, strict=True))
    for name, config in found.items():
        assert config["backend"] == name.partition(".")[0][:-1]
        assert config["max_batch_size"] == 4
        file = others[name] / "1" / config["default_model_filename"]
        assert file.is_file(), f"{name} names a file that is not there"

    def accelerator(name: str) -> Any:
        own = found[name]["optimization"]["execution_accelerators"]
        return own["gpu_execution_accelerator"][0]

    assert accelerator("onnxruntime1.graph")["name"] == "cuda"
    assert accelerator("onnxruntime2.graph")["parameters"]["precision_mode"] == "FP16"
    assert found["openvino1.graph"]["parameters"]["HINT_BF16"] == {"string_value": "YES"}
    assert found["tensorrt1.graph"]["instance_group"][0]["kind"] == "KIND_GPU"


def test_the_real_server_lacks_nothing_of_other_graphs_but_their_backends(
    server: TritonServer, tiny_artifact: Artifact, others: dict[str, Path], tmp_path: Path
) -> None:
    """It reads, completes and checks each configuration before it looks for the backend."""
    deployment = deployment_of(tiny_artifact)
    packaged = write_repository(tmp_path / "own", tiny_artifact, deployment, backend="python")
    (repository,) = {folder.parent for folder in others.values()}
    # Those of a GPU are refused for the want of one.
    options = [f"--load-model={backend}0.graph" for backend in OTHER_BACKENDS]
    packaged = msgspec.structs.replace(
        packaged,
        repository=str(repository),
        server_options=(*packaged.server_options, "--model-control-mode=explicit", *options),
    )
    started = triton_process.start(server, packaged, deployment, free_ports())
    with pytest.raises(ServiceFailed) as failed:
        started.wait_ready(60)
    started.end()
    reasons = failed.value.message
    for backend in OTHER_BACKENDS:
        assert f"{backend}0.graph: " in reasons
        assert f"unable to find backend library for backend '{backend}'" in reasons
    assert reasons.count("unable to find") == len(OTHER_BACKENDS)


def test_a_model_that_does_not_load_is_an_error_with_its_reason(
    server: TritonServer, tmp_path: Path, tiny_artifact: Artifact
) -> None:
    deployment = deployment_of(tiny_artifact, engine="null")
    packaged = write_repository(tmp_path / "repository", tiny_artifact, deployment)
    (tmp_path / "repository" / "tiny" / "1" / "seatrial.zip").unlink()
    started = triton_process.start(server, packaged, deployment, free_ports())
    with pytest.raises(ServiceFailed, match=r"tiny: ImportError: .*pip install --no-deps -r"):
        started.wait_ready(60)
    started.end()
