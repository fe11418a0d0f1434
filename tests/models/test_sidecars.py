"""Files beside a model: which are read, and what of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from seatrial.errors import InvalidArtifact
from seatrial.models.sidecars import sidecars, texts


def test_metadata_yaml_is_of_openvino_alone(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n")
    (tmp_path / "metadata.yaml").write_text("names: {0: 'no', 1: dog}\nstride: 32\nend2end: false")
    (tmp_path / "v5.yaml").write_text("stride: 64")
    assert [file.name for file in sidecars(tmp_path / "m.onnx")] == ["labels.txt"]
    assert texts(tmp_path / "m.onnx") == {"labels.txt": "cat\n"}
    assert texts(tmp_path / "m.xml") == {
        "labels.txt": "cat\n", "names": "{0: 'no', 1: 'dog'}", "stride": "32", "end2end": "False",
    }  # fmt: skip
    assert texts(tmp_path / "v5.xml")["stride"] == "64"  # YOLOv5 names it like the model


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("{0: no, 1: 007}", {0: "no", 1: "007"}),
        ("[no, 007, 1.50, 2021-06-01, 1:60]", ["no", "007", "1.50", "2021-06-01", "1:60"]),
        ("{1: dog, 0: on}", {1: "dog", 0: "on"}),
        ("['null', \"a: b\", x#y]", ["null", "a: b", "x#y"]),
    ],
)
def test_names_are_the_text_as_it_is_written(tmp_path: Path, written: str, names: object) -> None:
    (tmp_path / "metadata.yaml").write_text(f"names: {written}\n")
    assert ast.literal_eval(texts(tmp_path / "m.xml")["names"]) == names


@pytest.mark.parametrize("text", ["date: 2020-13-45", "stride: 0x" + "f" * 5000, "- names"])
def test_a_description_that_cannot_be_read_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(InvalidArtifact, match=re.escape(str(tmp_path))) as refusal:
        texts(tmp_path / "m.xml")
    assert refusal.value.hint


@pytest.mark.parametrize(("folder", "above"), [("onnx", True), ("openvino", True), ("v2", False)])
def test_descriptions_above_a_folder_of_graphs_are_read(
    tmp_path: Path, folder: str, above: bool
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / "config.json").write_text("above")
    (tmp_path / "labels.txt").write_text("above")
    (tmp_path / folder / "labels.txt").write_text("beside")
    wanted = {"labels.txt": "beside"} | ({"config.json": "above"} if above else {})
    assert texts(tmp_path / folder / "m.onnx") == wanted
