"""ONNX files that cannot be read: each says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from seatrial.errors import InvalidArtifact
from seatrial.graphs import onnx_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5242880\n"


@pytest.fixture
def external(tmp_path: Path, tiny_model: Callable[..., Any]) -> Path:
    """The tiny detector with its weights in ``weights.bin``."""
    path = tmp_path / "model.onnx"
    onnx.save_model(
        tiny_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path


def refusal(path: Path) -> InvalidArtifact:
    with pytest.raises(InvalidArtifact) as error:
        onnx_file.load(path)
    assert path.name in error.value.message
    assert error.value.hint
    assert "Error" not in error.value.message  # no class of another library
    return error.value


def test_weights_beside_the_file_are_read(external: Path) -> None:
    onnx_file.check_weights(onnx_file.load(external), "model.onnx")


def test_weights_that_were_not_copied_too_are_named(external: Path) -> None:
    (external.parent / "weights.bin").unlink()
    error = refusal(external)
    assert "keeps its weights in 'weights.bin', which is not beside it" in error.message
    assert "copy or fetch that file too" in error.hint


def test_weights_under_another_name_are_named_by_the_one_in_the_model(external: Path) -> None:
    (external.parent / "weights.bin").rename(external.parent / "model.onnx.data")
    assert "'weights.bin'" in refusal(external).message


def test_weights_that_were_cut_off(external: Path) -> None:
    weights = external.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    error = refusal(external)
    assert "bytes of at least" in error.message
    assert "cut off" in error.hint


@pytest.mark.parametrize(
    ("content", "what"),
    [(POINTER, "Git LFS pointer"), (b"<!doctype html>", "web page"), (b"", "empty")],
)
def test_weights_and_models_that_are_something_else(
    external: Path, content: bytes, what: str
) -> None:
    (external.parent / "weights.bin").write_bytes(content)
    assert what in refusal(external).message
    external.write_bytes(content)
    assert what in refusal(external).message


def test_a_newer_ir_version(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model()
    model.ir_version = onnx.IR_VERSION + 7
    (tmp_path / "new.onnx").write_bytes(model.SerializeToString())
    error = refusal(tmp_path / "new.onnx")
    assert f"IR version {onnx.IR_VERSION + 7}" in error.message
    assert f"up to {onnx.IR_VERSION}" in error.message
    assert "--upgrade onnx" in error.hint


def test_a_newer_ir_version_and_weights_that_are_missing(external: Path) -> None:
    model = onnx.load(external, load_external_data=False)
    model.ir_version = onnx.IR_VERSION + 1
    external.write_bytes(model.SerializeToString())
    (external.parent / "weights.bin").unlink()
    assert "IR version" in refusal(external).message
