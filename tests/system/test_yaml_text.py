"""YAML of others: text as it is written, and one error for whatever is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seatrial.errors import InvalidArtifact
from seatrial.system import yaml_text
from seatrial.system.yaml_text import read_yaml

# Nine lines that stand for a thousand million values.
LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

# The same with the keys of mappings, which the loader merges.
MERGED = "a0: &a0 {k: 1, l: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


def read(path: Path, *, as_written: bool) -> Any:
    return read_yaml(
        path, error=InvalidArtifact, extra="evaluate", hint="mend it", as_written=as_written
    )


def test_values_are_text_or_what_yaml_makes_of_them(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("no: [007, 1.50, yes, null, 2021-06-01]\n1: {2: on}\n")
    written = {"no": ["007", "1.50", "yes", None, "2021-06-01"], "1": {"2": "on"}}
    assert read(path, as_written=True) == written
    typed = read(path, as_written=False)
    assert typed[False][:4] == [7, 1.5, True, None]
    assert typed[1] == {2: True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date: 2020-13-45", "month must be in 1..12"),
        ("a: &a [*a]", "more than 200,000 values"),
        ("stride: " + "9" * 5000, "digits"),
        ("stride: 32\nstride: 64", "the key 'stride' is there twice"),
        ("stride: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: " + "[" * 400, "is not YAML"),
        ("names: {0: cat, 00: dog}", "the key 0 is there twice"),
        ("date: !!timestamp x", "is not YAML"),
        ("half: !!bool x", "is not YAML"),
        ("stride: !!int ''", "is not YAML"),
        (LAUGHS, "more than 200,000 values"),
        (MERGED, "more than 200,000 values"),
        (f"{LAUGHS}? [*a9, *a9]\n: x", "more than 200,000 values"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "the key '<<' is there twice"),
        ("[a]: 1", "found unhashable key"),
    ],
)
def test_yaml_that_is_none_is_one_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(InvalidArtifact, match=re.escape(said)) as refusal:
        read(tmp_path / "metadata.yaml", as_written=False)
    assert str(tmp_path / "metadata.yaml") in refusal.value.message
    assert refusal.value.hint


def test_aliases_that_people_write_are_read_and_long_lists_without_any(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("a: &a {x: no, y: 007}\nb: {<<: *a, y: null}\nc: [*a, *a]\n")
    first = {"x": "no", "y": "007"}
    wanted = {"a": first, "b": {"x": "no", "y": None}, "c": [first, first]}
    assert read(path, as_written=True) == wanted


@pytest.mark.parametrize(
    ("values", "more", "refused"),
    [
        (80, "", False),  # more than 50 values, each of which is there
        (40, "", False),
        (22, "\nb: *a", False),  # 49 values
        (23, "\nb: *a", True),  # 51 values
    ],
)
def test_only_what_aliases_add_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int, more: str, refused: bool
) -> None:
    monkeypatch.setattr(yaml_text, "MOST_VALUES", 50)
    path = tmp_path / "one.yaml"
    path.write_text(f"a: &a [{', '.join(['x'] * values)}]{more}\n")
    if refused:
        with pytest.raises(InvalidArtifact, match="more than 50 values"):
            read(path, as_written=True)
    else:
        assert len(read(path, as_written=True)["a"]) == values


def test_each_key_is_compared_with_few_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of 21,000 classes are real: each key was compared with all."""
    compared = 0

    class Key(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str(self) == other

        __hash__ = str.__hash__

    monkeypatch.setattr(yaml.SafeLoader, "construct_scalar", lambda self, node: Key(node.value))
    (tmp_path / "one.yaml").write_text("".join(f"{n}: x\n" for n in range(500)))
    assert len(read(tmp_path / "one.yaml", as_written=True)) == 500
    assert compared < 3 * 500
