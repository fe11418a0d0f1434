"""What is in a safetensors file, without torch; lies of its header are refused."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.errors import InvalidArtifact
from seatrial.models import safetensors_check
from seatrial.models.safetensors_check import StoredTensor, check_finite, read_header

pytest.importorskip("safetensors", reason="seatrial[hub] is not installed")

Change = Callable[[dict[str, Any]], object]


def write(
    path: Path, tensors: dict[str, tuple[str, np.ndarray[Any, Any]]], change: Change | None = None
) -> Path:
    """The format by hand: length, header, data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, values) in tensors.items():
        data = values.tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": place}
        body += data
    if change is not None:
        change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


TWO = {"a": ("F32", np.ones((3, 4), np.float32)), "b": ("F32", np.ones(6, np.float32))}


def test_what_is_in_a_file(path: Path) -> None:
    write(path, {"half": ("F16", np.ones((2, 3), np.float16)),
                 "one": ("F64", np.float64(1).reshape(())),
                 "none": ("F32", np.ones((0, 4), np.float32)),
                 "flag": ("BOOL", np.ones(5, np.bool_)),
                 "tiny": ("F8_E4M3", np.ones(4, np.uint8))})  # fmt: skip
    found = read_header(path)
    start = path.stat().st_size - (12 + 8 + 0 + 5 + 4)
    assert found["half"] == StoredTensor("F16", (2, 3), start, start + 12)
    assert found["one"] == StoredTensor("F64", (), start + 12, start + 20)
    assert found["none"] == StoredTensor("F32", (0, 4), start + 20, start + 20)
    assert found["flag"] == StoredTensor("BOOL", (5,), start + 20, start + 25)
    assert found["tiny"] == StoredTensor("F8_E4M3", (4,), start + 25, start + 29)
    check_finite(path, found)


def test_places_are_those_of_the_header_whatever_its_order(path: Path) -> None:
    def turn(header: dict[str, Any]) -> None:
        for name in ("a", "b"):
            header[name] = header.pop(name)
        header["a"] = header.pop("a")

    found = read_header(write(path, {**TWO, "b": ("F32", np.full(6, np.nan, np.float32))}, turn))
    assert found["a"].end == found["b"].begin
    with pytest.raises(InvalidArtifact, match=r"in b$"):
        check_finite(path, found)


LIES: list[tuple[str, Change]] = [
    ("a shape", lambda h: h["a"].update(shape=[3, 5])),
    ("a type", lambda h: h["a"].update(dtype="F16")),
    ("an unknown type", lambda h: h["a"].update(dtype="X9")),
    ("a range that overlaps", lambda h: h["b"].update(data_offsets=[0, 24])),
    ("a range out of the file", lambda h: h["b"].update(data_offsets=[48, 960], shape=[228])),
    ("a range before the file", lambda h: h["b"].update(data_offsets=[-24, 0])),
    ("bytes that belong to nothing", lambda h: h.pop("b")),
    ("a gap", lambda h: h.pop("a")),
]


@pytest.mark.parametrize("change", [lie for _, lie in LIES], ids=[name for name, _ in LIES])
def test_a_header_that_lies(path: Path, change: Change) -> None:
    write(path, TWO, change)
    with pytest.raises(InvalidArtifact, match=r"w\.safetensors is not a whole safetensors file"):
        read_header(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x10", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 200_000_000) + b"{}",
     b"\x80\x02}q\x00." * 9, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 40) + b"{"],
    ids=["empty", "one byte", "huge", "large", "pickle", "list", "cut off"],
)  # fmt: skip
def test_what_is_no_safetensors_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(
        InvalidArtifact, match=r"is (not a whole safetensors file|empty)"
    ) as refusal:
        read_header(path)
    assert "fetch it again" in refusal.value.hint


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="No such file"):
        read_header(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("F64", np.float64), ("F32", np.float32), ("F16", np.float16)]
)
@pytest.mark.parametrize("at", [0, 5, 9])
def test_what_is_no_number(path: Path, dtype: str, kind: Any, value: float, at: int) -> None:
    limits = np.finfo(kind)
    values = np.array([limits.max, limits.min, limits.tiny, 0, -0.0] * 2, kind)
    check_finite(path, read_header(write(path, {"w": (dtype, values)})))
    values[at] = value
    with pytest.raises(InvalidArtifact, match=r"not numbers .* in w$"):
        check_finite(path, read_header(write(path, {"w": (dtype, values)})))


@pytest.mark.parametrize(
    ("bits", "sound"), [(0x3F80, True), (0xFF80, False), (0x7FC1, False), (0x7F7F, True)]
)
def test_bfloat16_which_numpy_does_not_know(path: Path, bits: int, sound: bool) -> None:
    found = read_header(write(path, {"w": ("BF16", np.array([0, bits], np.uint16))}))
    if sound:
        check_finite(path, found)
    else:
        with pytest.raises(InvalidArtifact, match="not numbers"):
            check_finite(path, found)


def test_the_names_of_three_tensors_and_the_count_of_the_rest(path: Path) -> None:
    wrong = {f"w{i}": ("F32", np.full(2, np.nan, np.float32)) for i in range(5)}
    with pytest.raises(InvalidArtifact, match=r"in w0, w1, w2 and 2 more$"):
        check_finite(path, read_header(write(path, wrong)))


def test_integers_of_any_bits_are_numbers(path: Path) -> None:
    found = read_header(write(path, {"count": ("I64", np.full(3, -1, np.int64))}))
    check_finite(path, found)


def test_a_large_tensor_is_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_check, "CHUNK_BYTES", 2**16)
    values = np.ones(2**20, np.float32)
    found = read_header(write(path, {"w": ("F32", values)}))
    tracemalloc.start()
    try:
        check_finite(path, found)
        assert tracemalloc.get_traced_memory()[1] < 2**20  # of 4 MiB
    finally:
        tracemalloc.stop()
    values[-1] = np.inf
    with pytest.raises(InvalidArtifact, match="not numbers"):
        check_finite(path, read_header(write(path, {"w": ("F32", values)})))
