"""References to models on hubs."""

from __future__ import annotations

import pytest

from seatrial.errors import InvalidInput
from seatrial.manifest import check_name
from seatrial.models.hubs.reference import Reference, parse

COMMIT = "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b"
FINE = {
    "huggingface:facebook/detr-resnet-50": ("facebook/detr-resnet-50", "", ""),
    "huggingface:facebook/detr-resnet-50@main": ("facebook/detr-resnet-50", "", "main"),
    "huggingface:facebook/detr-resnet-50@refs/pr/7": ("facebook/detr-resnet-50", "", "refs/pr/7"),
    f"modelscope:AI-ModelScope/yolos-tiny@{COMMIT}": ("AI-ModelScope/yolos-tiny", "", COMMIT),
    "huggingface:onnx-community/detr/onnx/model.onnx@v1.0": (
        "onnx-community/detr",
        "onnx/model.onnx",
        "v1.0",
    ),
    "huggingface:gpt2": ("gpt2", "", ""),
    "huggingface:a/b/my model (1).onnx": ("a/b", "my model (1).onnx", ""),
}


@pytest.mark.parametrize(("text", "parts"), FINE.items())
def test_what_a_person_writes(text: str, parts: tuple[str, str, str]) -> None:
    reference = parse(text)
    assert (reference.repo, reference.file, reference.revision) == parts
    assert reference.pinned == (parts[2] == COMMIT)


@pytest.mark.parametrize("text", FINE)
def test_a_resolved_reference_reads_back(text: str) -> None:
    reference = parse(text)
    again = parse(reference.at(COMMIT))
    assert again.pinned
    assert (again.source, again.repo, again.file) == (
        reference.source,
        reference.repo,
        reference.file,
    )


@pytest.mark.parametrize(
    "rest",
    ["", "a/", "/b", "a//b", "../b", "a/..", "a/b@", "a/b@x y", "a/b/../c.onnx", "a/b//c.onnx",
     "a b/c", "a/b@../x", "a/b?x", "a/b@-x", "-a/b", "https://huggingface.co/a/b"],
)  # fmt: skip
def test_what_is_no_reference(rest: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse(f"huggingface:{rest}")
    assert "OWNER/NAME" in refusal.value.hint


@pytest.mark.parametrize("text", ["https://huggingface.co/a/b", "hf:a/b", ":a/b", "github:a/b"])
def test_an_unknown_source_names_the_known(text: str) -> None:
    with pytest.raises(InvalidInput, match="unknown source") as refusal:
        parse(text)
    assert "huggingface, modelscope" in refusal.value.hint


def test_a_model_of_modelscope_has_an_owner() -> None:
    with pytest.raises(InvalidInput, match="does not name a model"):
        parse("modelscope:detr")


@pytest.mark.parametrize(
    ("repo", "file", "name"),
    [
        ("facebook/detr-resnet-50", "", "detr-resnet-50"),
        ("PekingU/rtdetr_v2_r18vd", "", "rtdetr_v2_r18vd"),
        ("ustc-community/D-FINE+N", "", "d-fine-n"),
        ("a/detr", "onnx/model.onnx", "detr-onnx"),
        ("a/detr", "model_fp16.onnx", "detr-model_fp16"),
        ("a/_hidden", "", "hidden"),
        ("a/" + "x" * 96, "y" * 96 + ".onnx", "x" * 96 + "-yyy"),
    ],
)
def test_names_of_artifacts(repo: str, file: str, name: str) -> None:
    assert Reference("huggingface", repo, file).artifact_name() == name
    assert check_name(name) == name
