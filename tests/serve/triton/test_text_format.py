"""Protobuf's text format."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.serve.triton.text_format import MapField, Word, to_text


def test_fields_messages_lists_and_maps() -> None:
    message = {
        "name": "tiny", "kind": Word("KIND_CPU"), "count": 2, "share": 0.5, "own": True,
        "dims": [-1, 4], "nothing": [],
        "group": [{"count": 1}, {"count": 2}],
        "parameters": MapField({"a": {"string_value": "b"}}),
    }  # fmt: skip
    assert to_text(message) == (
        'name: "tiny"\nkind: KIND_CPU\ncount: 2\nshare: 0.5\nown: true\ndims: -1\ndims: 4\n'
        "group {\n  count: 1\n}\ngroup {\n  count: 2\n}\n"
        'parameters {\n  key: "a"\n  value {\n    string_value: "b"\n  }\n}\n'
    )


def test_a_word_is_one_name() -> None:
    with pytest.raises(ValueError, match="names no value"):
        to_text({"kind": Word("KIND_CPU } model { x: 1")})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", '""'),
        ('say "a\\b"', r'"say \"a\\b\""'),
        ("é 猫", '"é 猫"'),
        ("a\nb\t\x7f", r'"a\012b\011\177"'),
        ("\u2028", r'"\342\200\250"'),
    ],
)
def test_strings_are_quoted(text: str, written: str) -> None:
    assert to_text({"name": text}) == f"name: {written}\n"


def test_other_values_are_an_error() -> None:
    with pytest.raises(TypeError, match="PosixPath has no form"):
        to_text({"name": Path("a")})
