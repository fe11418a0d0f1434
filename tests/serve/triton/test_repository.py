"""A model repository as files; `test_triton_process.py` has a server."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import Batching, CoreLayout, Deployment
from seatrial.errors import InvalidInput, NotWritable
from seatrial.serve.triton.repository import MODEL_PY, lanes_of, server_options, write_repository
from seatrial.system.written_folders import RECORD


def deployment(artifact: Artifact, engine: str = "onnxruntime") -> Deployment:
    return Deployment(str(artifact.path), engine=engine, layout=CoreLayout(2, 3, 1))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


DETECTOR = {
    f"tiny/{RECORD}",
    "tiny/config.pbtxt", "tiny/labels.txt", "tiny/requirements.txt", "tiny/warmup/image",
    "tiny/1/model.py", "tiny/1/seatrial.zip", "tiny/1/deployment.toml",
    "tiny/1/model/manifest.json",
}  # fmt: skip


def test_python_has_the_artifact_in_both_models(tiny_artifact: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "repository"
    packaged = write_repository(folder, tiny_artifact, deployment(tiny_artifact), backend="python")
    graph = {RECORD, "config.pbtxt", "1/model.py", "1/seatrial.zip", "1/deployment.toml",
             "1/model/manifest.json", "1/model/model.onnx"}  # fmt: skip
    assert names(folder) == {
        *DETECTOR, "tiny/1/model/model.onnx", *(f"tiny.graph/{name}" for name in graph)
    }  # fmt: skip
    assert (folder / "tiny" / "labels.txt").read_text() == "red\ngreen\nblue\n"
    version = folder / "tiny" / "1"
    again = Deployment.read(version / "deployment.toml")
    model = str(version / "model")
    assert again == msgspec.structs.replace(deployment(tiny_artifact), model=model)
    assert [(one.name, one.backend, one.instances) for one in packaged.models] == [
        ("tiny", "python", 6), ("tiny.graph", "python", 1)
    ]  # fmt: skip
    needed = (folder / packaged.requirements).read_text().splitlines()
    assert any(line.startswith("onnxruntime==") for line in needed)
    assert not any(line.startswith("numpy") for line in needed)


def test_a_text_that_goes_into_a_model_is_data_and_no_code() -> None:
    text = '"""+__import__("os").system("touch made")+"""\'{kind}\n\\'
    made = MODEL_PY.format(code=text, kind="DetectorModel", requirements=text)
    parsed = ast.parse(made)
    constants = [one.value for one in ast.walk(parsed) if isinstance(one, ast.Constant)]
    assert constants.count(text) == 2
    called = [one.func for one in ast.walk(parsed) if isinstance(one, ast.Call)]
    assert {ast.unparse(one) for one in called} == {
        "sys.path.insert", "str", "Path", "ImportError",
    }  # fmt: skip


def test_another_backend_has_the_graph_and_python_the_rest(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    packaged = write_repository(tmp_path / "made", tiny_artifact, deployment(tiny_artifact))
    assert names(tmp_path / "made") == {
        *DETECTOR, f"tiny.graph/{RECORD}", "tiny.graph/config.pbtxt", "tiny.graph/1/model.onnx"
    }  # fmt: skip
    assert [one.instances for one in packaged.models] == [7, 6]
    # The runtime is Triton's own.
    assert "onnxruntime" not in (tmp_path / "made" / "tiny" / "requirements.txt").read_text()


def test_weights_beside_a_graph_go_with_it(tiny_artifact: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    files = ("model.xml", "model.bin", "model.onnx", "model.onnx.data", "report.json")
    for name in files:
        (folder / name).write_text(name)
    entries = tuple(msgspec.structs.replace(tiny_artifact.manifest.files[0], path=n) for n in files)
    manifest = msgspec.structs.replace(
        tiny_artifact.manifest, files=entries,
        formats={"onnx": "model.onnx", "openvino": "model.xml"},
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    artifact = Artifact(folder, manifest, tiny_artifact.digest)
    write_repository(tmp_path / "ort", artifact, deployment(artifact))
    write_repository(tmp_path / "ov", artifact, deployment(artifact, "openvino"))
    ort, ov = (names(tmp_path / name / "tiny.graph" / "1") for name in ("ort", "ov"))
    assert {"model.onnx", "model.onnx.data"} <= ort
    assert "model.xml" not in ort
    assert {"model.xml", "model.bin"} <= ov
    assert not {"model.onnx", "report.json"} & ov


def test_models_that_are_there_stay_without_force(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.pbtxt").write_text('name: "other"\n')
    plain = deployment(tiny_artifact, "null")
    write_repository(tmp_path, tiny_artifact, plain)
    before = contents(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"other", "tiny", "tiny.graph"}
    with pytest.raises(InvalidInput, match="has a model 'tiny' already") as caught:
        write_repository(tmp_path, tiny_artifact, plain)
    assert "--force" in caught.value.hint
    assert contents(tmp_path) == before
    write_repository(tmp_path, tiny_artifact, deployment(tiny_artifact), force=True)
    assert (tmp_path / "other" / "config.pbtxt").read_text() == 'name: "other"\n'
    assert not (tmp_path / "tiny.graph" / "1" / "model.py").exists()


def test_force_replaces_models_alone(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years")
    with pytest.raises(InvalidInput, match="tiny is not replaced: Seatrial did not"):
        write_repository(tmp_path, tiny_artifact, deployment(tiny_artifact), force=True)
    assert (tmp_path / "tiny" / "thesis.txt").read_text() == "years"


def test_force_keeps_a_model_that_somebody_else_wrote(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """Every model of Triton has a config.pbtxt; and a version of one's own may lie beside ours."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.pbtxt").write_text('name: "tiny"')
    with pytest.raises(InvalidInput, match="tiny is not replaced: Seatrial did not write it"):
        write_repository(tmp_path, tiny_artifact, deployment(tiny_artifact), force=True)
    assert names(tmp_path) == {"tiny/config.pbtxt"}
    own = tmp_path / "own"
    write_repository(own, tiny_artifact, deployment(tiny_artifact, "null"))
    config = own / "tiny" / "config.pbtxt"
    config.write_text("edited")
    with pytest.raises(InvalidInput, match=r"it holds config\.pbtxt, which was edited") as caught:
        write_repository(own, tiny_artifact, deployment(tiny_artifact, "null"), force=True)
    assert caught.value.hint == "move that file away; -o names another folder"
    assert config.read_text() == "edited"
    config.unlink()
    write_repository(own, tiny_artifact, deployment(tiny_artifact, "null"), force=True)
    assert config.is_file()
    config.write_bytes(b"")  # as a loss of power leaves it in a folder of a run
    plain = deployment(tiny_artifact, "null")
    write_repository(own, tiny_artifact, plain, force=True, edited=True)
    assert config.read_bytes()
    (own / "tiny" / "2").mkdir()
    (own / "tiny" / "2" / "model.py").write_text("mine")
    with pytest.raises(InvalidInput, match="it holds 2, which Seatrial did not write there"):
        write_repository(own, tiny_artifact, deployment(tiny_artifact, "null"), force=True)
    assert (own / "tiny" / "2" / "model.py").read_text() == "mine"


def test_what_fails_leaves_nothing(tiny_artifact: Artifact, tmp_path: Path) -> None:
    broken = Artifact(tmp_path / "gone", tiny_artifact.manifest, tiny_artifact.digest)
    with pytest.raises((NotWritable, OSError)):
        write_repository(tmp_path / "made", broken, deployment(tiny_artifact), backend="python")
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_server_keep_it_to_the_lanes(tiny_artifact: Artifact) -> None:
    shape = lanes_of(deployment(tiny_artifact))
    assert (shape.lanes, shape.threads) == (6, 1)
    assert server_options(shape) == (
        "--disable-auto-complete-config", "--rate-limit=execution_count",
        "--rate-limit-resource=lane:6",
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "most"), [(1, 1), (4, 4), ("auto", 1)])
def test_batches_are_those_of_the_deployment(
    tiny_artifact: Artifact, asked: Any, most: int
) -> None:
    batching = Batching(max_batch=asked, max_delay_ms=2.5)
    shape = lanes_of(msgspec.structs.replace(deployment(tiny_artifact), batching=batching))
    assert (shape.max_batch, shape.max_delay_ms) == (most, 2.5)


def test_labels_are_a_line_each(tiny_artifact: Artifact, tmp_path: Path) -> None:
    manifest: Any = msgspec.structs.replace(tiny_artifact.manifest, labels=("a\nb", "é", ""))
    artifact = Artifact(tiny_artifact.path, manifest, tiny_artifact.digest)
    write_repository(tmp_path / "made", artifact, deployment(artifact))
    assert (tmp_path / "made/tiny/labels.txt").read_text("utf-8").split("\n") == [
        "a b", "é", "", ""
    ]  # fmt: skip
