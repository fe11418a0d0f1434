"""One word, one meaning: the glossary, and the names in the source that it holds."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "seatrial"
GLOSSARY = ROOT / "docs" / "concepts" / "glossary.md"
FILES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
# Part of a name -> what the glossary calls it.
OLD = {
    "restless": "parent_noise",
    "blame": "first_difference",
    "draft": "prelabel",
    "worst_images": "error_gallery",
    "detection_thresholds": "thresholds",
    "nearduplicates": "near_duplicates",
}
# Classes of one name would be two meanings of a word.
OLD_CLASSES = {
    "Canvas": "Letterbox",
    "Made": "Lineage",
    "Detection": "Thresholds",
    "Pictures": "Images",
    "Target": "Target (load) or Format (export)",
}


def rows() -> list[tuple[str, str]]:
    return re.findall(r"^\| (.+?) \| (.+?) \|$", GLOSSARY.read_text(), re.MULTILINE)[1:]


@functools.cache
def names(path: Path) -> tuple[tuple[str, int], ...]:
    """The names that a file gives: of modules, classes, functions, parameters, variables."""
    return tuple(_names(path))


def _names(path: Path) -> Iterator[tuple[str, int]]:
    yield path.stem, 0
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_the_glossary_has_its_words_once_and_in_order() -> None:
    words = [word for word, _ in rows()]
    assert len(words) >= 40
    assert words == sorted(words, key=lambda word: word.lower().replace("-", " "))
    assert len({*words}) == len(words)


def test_a_word_has_one_sentence() -> None:
    for word, meaning in rows():
        assert meaning.endswith("."), word
        assert not re.search(r"[.!?] [A-Z]", meaning), word


@pytest.mark.parametrize("old", OLD)
def test_no_name_is_an_old_word(old: str) -> None:
    found = [
        f"{file}:{line} {name}: say {OLD[old]}"
        for file, path in FILES.items()
        for name, line in names(path)
        if old in name.lower()
    ]
    assert found == []


def test_an_image_is_called_so() -> None:
    """In names, messages, help and docstrings; options, keys and codes keep the name they had."""
    kept = {"--pictures", "pictures", "next-smaller-pictures", "picture"}
    texts = (
        (file, node.lineno, node.value)
        for file, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    named = ((file, line, name) for file, path in FILES.items() for name, line in names(path))
    assert [t for t in (*texts, *named) if "picture" in t[2].lower() and t[2] not in kept] == []


def test_no_class_is_called_by_an_old_word() -> None:
    found = [
        f"{file}: {name}: say {OLD_CLASSES[name]}"
        for file, path in FILES.items()
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
        if name in OLD_CLASSES and not file.startswith("load/")
    ]
    assert found == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for file, path in FILES.items():
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), re.MULTILINE):
            places.setdefault(name, []).append(file)
    twice = {name for name, files in places.items() if len(files) > 1}
    assert twice == set()


def test_a_docstring_does_not_begin_with_of_or_what() -> None:
    """A noun says what it is: "Name of the artifact", not "Of the artifact" or "What it is"."""
    bare = re.compile(r'(^\s+\w+: |""")Of |"""What ', re.MULTILINE)
    assert [file for file, path in FILES.items() if bare.search(path.read_text())] == []


def test_no_message_says_that_something_is_no_other_thing() -> None:
    """ "is not a folder", not "is no folder"; "there is no folder" is English."""
    riddle = re.compile(r"(?<![Tt]here )\b(is|are|was|were) no [a-z]")
    found = []
    for file, path in FILES.items():
        tree = ast.parse(path.read_text())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{file}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and riddle.search(node.value)
        ]
    assert found == []
