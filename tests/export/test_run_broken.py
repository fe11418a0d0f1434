"""What must not become an artifact: one clear error each, and the store is left as it was."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.engines import cuda
from seatrial.errors import (
    DeviceUnavailable,
    Diverged,
    InvalidArtifact,
    InvalidDataset,
    SeatrialError,
)
from seatrial.export import formats
from seatrial.export.options import ExportOptions
from seatrial.export.report import ExportReport
from seatrial.export.run import export
from seatrial.graphs import onnx_file
from seatrial.models import proof
from seatrial.models.import_onnx import import_onnx

ModelFile = Callable[..., Path]
Refused = Callable[[type[SeatrialError], Callable[[], object]], SeatrialError]


@pytest.fixture
def tiny(store: Store, model_file: ModelFile) -> Artifact:
    return import_onnx(store, model_file())


def contents(root: Path) -> dict[str, bytes]:
    """All that lies in a store, hidden folders too."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def refused(store: Store) -> Refused:
    """Calls what must raise, and sees that the store is as it was before."""

    def run(kind: type[SeatrialError], work: Callable[[], object]) -> SeatrialError:
        before = contents(store.root), sorted(store.root.glob("*"))
        with pytest.raises(kind) as refusal:
            work()
        assert (contents(store.root), sorted(store.root.glob("*"))) == before
        return refusal.value

    return run


def as_imported_before(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> Artifact:
    """An artifact of a file that import refuses now: an older store may hold one."""
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, check, lambda *given: None)
        patch.setattr(proof, "prove", lambda *given, **named: None)
        return import_onnx(store, path)


def shifted(model: Any, name: str, by: float) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(by), name))


SABOTAGE = [
    ("weights", 0.5, "shift of confidence", "Conv"),  # confidences halved
    ("boxes", 1.1, "mean IoU of boxes", "Add"),  # boxes off
    ("weights", 0.0, "have no partner", "Conv"),  # nothing is seen any more
]


@pytest.mark.parametrize(("constant", "by", "failure", "operator"), SABOTAGE)
def test_an_export_that_went_wrong_is_not_written_and_its_layer_is_named(
    store: Store,
    tiny: Artifact,
    cell_images: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    constant: str,
    by: float,
    failure: str,
    operator: str,
) -> None:
    write = formats._onnx

    def wrong(folder: Path, parent: Any, graph: Any, manifest: Any, options: ExportOptions) -> Any:
        broken = type(graph)()
        broken.CopyFrom(graph)
        shifted(broken, constant, by)
        return write(folder, parent, broken, manifest, options)

    monkeypatch.setitem(formats.WRITERS, "onnx", wrong)
    labels = cell_images / "instances.json"
    error = refused(
        Diverged,
        lambda: export(store, tiny, ExportOptions("onnx"), images=cell_images, annotations=labels),
    )
    assert failure in error.message
    assert isinstance(error, Diverged)
    report = error.report
    assert isinstance(report, ExportReport)
    # AP knows only the order of confidences: it holds where all of them halve.
    outcomes = {row.clause.metric: row.outcome for row in report.verdict.rows}
    assert (outcomes["ap_drop"] == "fails") == (by != 0.5)
    assert report.first_difference is not None
    assert report.first_difference.first is not None
    assert report.first_difference.first.operator == operator
    assert f"differ from {operator}" in error.message


def test_a_graph_that_overflows_in_half_precision(
    store: Store,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    cell_images: Path,
    refused: Refused,
) -> None:
    model = tiny_model()
    shifted(model, "weights", 3e7)  # clipped to 1 right after, in float32
    onnx.save(model, tmp_path / "loud.onnx")
    parent = import_onnx(store, tmp_path / "loud.onnx")
    refused(
        InvalidArtifact,
        lambda: export(store, parent, ExportOptions("onnx", "f16"), images=cell_images),
    )


def test_a_batch_size_that_is_open_in_name_only(
    store: Store,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    cell_images: Path,
    refused: Refused,
) -> None:
    model = tiny_model(batch="batch")
    flat = next(t for t in model.graph.initializer if t.name == "flat")
    flat.CopyFrom(numpy_helper.from_array(np.array([1, 3, -1], np.int64), "flat"))
    # All cells of all pictures fall into the first picture; for one picture that is right.
    onnx.save(model, tmp_path / "baked.onnx")
    parent = import_onnx(store, tmp_path / "baked.onnx")
    asked = ExportOptions("openvino", dynamic_batch=True)
    error = refused(InvalidArtifact, lambda: export(store, parent, asked, images=cell_images))
    assert "images at once" in error.message


# Broken graphs


def test_weights_that_are_no_numbers(
    store: Store,
    tiny: Artifact,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    cell_images: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    shifted(model, "weights", float("nan"))
    onnx.save(model, tmp_path / "nan.onnx")
    error = refused(InvalidArtifact, lambda: import_onnx(store, tmp_path / "nan.onnx"))
    assert "nan.onnx holds weights that are not numbers (NaN), in weights" in error.message
    parent = as_imported_before(store, tmp_path / "nan.onnx", monkeypatch, "check_weights")
    error = refused(
        InvalidArtifact,
        lambda: export(store, parent, ExportOptions("openvino"), images=cell_images),
    )
    assert "not numbers (NaN), in weights" in error.message


def test_a_constant_that_is_no_number(
    store: Store, tiny: Artifact, tiny_model: Callable[..., Any], tmp_path: Path, refused: Refused
) -> None:
    model = tiny_model()
    low = next(t for t in model.graph.initializer if t.name == "low")
    model.graph.initializer.remove(low)
    value = numpy_helper.from_array(np.array(np.nan, np.float32), "low")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["low"], value=value))
    onnx.save(model, tmp_path / "nan.onnx")
    error = refused(InvalidArtifact, lambda: import_onnx(store, tmp_path / "nan.onnx"))
    assert "in low" in error.message


def test_an_opset_of_the_future(
    store: Store,
    tiny: Artifact,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    refused: Refused,
) -> None:
    model = tiny_model()
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "future.onnx")
    error = refused(InvalidArtifact, lambda: import_onnx(store, tmp_path / "future.onnx"))
    assert "future.onnx is of opset 99; onnx" in error.message


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_opset_that_the_engines_do_not_know(
    store: Store,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    cell_images: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    to: Any,
) -> None:
    model = tiny_model()
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.op_type, conv.domain = "MyConv", "com.example"
    onnx.save(model, tmp_path / "foreign.onnx")
    error = refused(InvalidArtifact, lambda: import_onnx(store, tmp_path / "foreign.onnx"))
    assert "foreign.onnx does not run" in error.message
    assert "MyConv" in error.message
    monkeypatch.setattr(proof, "prove", lambda *given, **named: None)  # as imported before
    parent = import_onnx(store, tmp_path / "foreign.onnx")
    error = refused(
        InvalidArtifact, lambda: export(store, parent, ExportOptions(to), images=cell_images)
    )
    assert "MyConv" in error.message


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off(
    store: Store, tiny: Artifact, model_file: ModelFile, refused: Refused, keep: float
) -> None:
    path = model_file("cut.onnx")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    error = refused(InvalidArtifact, lambda: import_onnx(store, path))
    assert "cut.onnx" in error.message


def test_an_artifact_whose_file_was_damaged_later(
    store: Store, tiny: Artifact, cell_images: Path, refused: Refused
) -> None:
    file = tiny.file("onnx")
    file.write_bytes(file.read_bytes()[:-100])
    error = refused(
        InvalidArtifact, lambda: export(store, tiny, ExportOptions("openvino"), images=cell_images)
    )
    assert "tiny/model.onnx" in error.message
    refused(InvalidArtifact, lambda: store.open("tiny"))


def test_names_that_do_not_fit_the_outputs(
    store: Store, tiny: Artifact, model_file: ModelFile, refused: Refused
) -> None:
    path = model_file("four.onnx", metadata={"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"})
    error = refused(InvalidArtifact, lambda: import_onnx(store, path))
    assert "4 classes" in error.message


# Broken pictures and labels


def test_images_that_cannot_be_used(
    store: Store, tiny: Artifact, cell_images: Path, tmp_path: Path, refused: Refused
) -> None:
    folder, asked = tmp_path / "empty", ExportOptions("openvino")
    error = refused(InvalidDataset, lambda: export(store, tiny, asked, images=folder))
    assert "does not exist" in error.message
    folder.mkdir()
    error = refused(InvalidDataset, lambda: export(store, tiny, asked, images=folder))
    assert "holds no images" in error.message
    (folder / "cut.png").write_bytes((cell_images / "01.png").read_bytes()[:-50])
    error = refused(InvalidDataset, lambda: export(store, tiny, asked, images=folder))
    assert "cut.png" in error.message


@pytest.mark.parametrize("damage", ["missing", "cut", "other ids", "other classes"])
def test_labels_that_cannot_be_used(
    store: Store, tiny: Artifact, cell_images: Path, tmp_path: Path, refused: Refused, damage: str
) -> None:
    labels = tmp_path / "labels.json"
    truth = json.loads((cell_images / "instances.json").read_bytes())
    if damage == "cut":
        labels.write_text(json.dumps(truth)[:-40])
    elif damage == "other ids":
        for row in truth["annotations"]:
            row["image_id"] += 1000
        labels.write_text(json.dumps(truth))
    elif damage == "other classes":
        for row in truth["categories"]:
            row["name"] += " thing"
        labels.write_text(json.dumps(truth))
    error = refused(
        SeatrialError,
        lambda: export(store, tiny, ExportOptions("onnx"), images=cell_images, annotations=labels),
    )
    said = {"missing": "labels.json", "cut": "labels.json", "other ids": "100"}
    assert said.get(damage, "no label of the model") in error.message
    assert error.exit_code == 2


def test_images_of_nothing_prove_nothing(
    store: Store,
    tiny: Artifact,
    tmp_path: Path,
    picture: Callable[..., Any],
    encode: Callable[..., bytes],
    refused: Refused,
) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    (folder / "grey.png").write_bytes(encode(picture({}), "PNG"))
    error = refused(
        InvalidDataset, lambda: export(store, tiny, ExportOptions("openvino"), images=folder)
    )
    assert "sees nothing" in error.message


# The machine


def test_tensorrt_without_a_gpu(
    store: Store,
    tiny: Artifact,
    cell_images: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libcuda.so.not-here")
    told: list[str] = []
    error = refused(
        DeviceUnavailable,
        lambda: export(
            store, tiny, ExportOptions("tensorrt"), images=cell_images, on_progress=told.append
        ),
    )
    assert "no NVIDIA GPU here" in error.message
    assert told == []  # before anything was loaded


FULL = """
import sys
from pathlib import Path
from seatrial.artifact import Store
from seatrial.errors import NotWritable
from seatrial.export.options import ExportOptions
from seatrial.export.run import export
store = Store(Path(sys.argv[1]))
(name,) = store.names()
try:
    export(store, store.open(name), ExportOptions(sys.argv[3]), images=Path(sys.argv[2]))
except NotWritable as error:
    print(error.message)
"""


def on_a_full_disk(store: Store, cell_images: Path, to: str, size: int) -> str:
    """Exports where no file may grow beyond a size; gives what was said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL, str(store.root), str(cell_images), to],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_full_disk(
    store: Store, tiny_model: Callable[..., Any], tmp_path: Path, cell_images: Path, to: str
) -> None:
    model = tiny_model()
    ballast = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    slim = [
        onnx.helper.make_node("ReduceSum", ["ballast"], ["heavy"], keepdims=0),
        onnx.helper.make_node("Mul", ["heavy", "low"], ["none"]),
        onnx.helper.make_node("Add", ["clipped", "none"], ["clipped_more"]),
    ]
    nodes = list(model.graph.node)
    nodes[2].input[0] = "clipped_more"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:2], *slim, *nodes[2:]])
    onnx.save(model, tmp_path / "heavy.onnx")
    import_onnx(store, tmp_path / "heavy.onnx")
    before = contents(store.root)
    assert "cannot be written" in on_a_full_disk(store, cell_images, to, 300_000)
    assert contents(store.root) == before
    assert [path.name for path in store.root.iterdir()] == ["heavy"]
