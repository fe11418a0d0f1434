"""The mutation tool: what it changes, what it leaves alone, and that it tells weak tests."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "mutate"
MODULE = '''"""A toy."""
LIMIT = 1000


def clamp(value: int, low: int = 0) -> int:
    """The value, no less than `low`."""
    if value > LIMIT:
        raise ValueError(f"{value + 1} is too much")
    return max(value, low)
'''
TESTS = """
from toy.area import clamp

def test_clamp():
    assert clamp(-5) == 0
    assert clamp(5) == 5
"""
MORE_TESTS = """
import pytest
from toy.area import clamp

def test_limit():
    assert clamp(1000) == 1000
    with pytest.raises(ValueError):
        clamp(1001)
"""


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("mutate", str(SCRIPT))
    spec = importlib.util.spec_from_loader("mutate", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mutate", module)
        patch.setattr(sys, "dont_write_bytecode", True)
        loader.exec_module(module)
        yield module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package of one module, whose tests never come to its limit."""
    for name, text in {
        "src/toy/__init__.py": "",
        "src/toy/area.py": MODULE,
        "tests/test_area.py": TESTS,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "src/toy/area.py", *options],
        cwd=project,
        # Each run imports what is installed for pytest; these tests use none of it.
        env={
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(project),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("a < b", "(a <= b)"),
        ("a == b", "(a != b)"),
        ("a + b", "(a - b)"),
        ("a and b", "(a or b)"),
        ("not a", "a"),
        ("x = 3", "x = 4"),
        ("x = 0.25", "x = 0.5"),
        ("x = 1e3", "x = 1.0"),
        ("x = True", "x = False"),
        ("min(a)", "max(a)"),
        ("np.argmax(a)", "np.argmin(a)"),
        ("f(a, b)", "f(b, a)"),
        ("sorted(a)", "sorted(a, reverse=True)"),
        ("a[:k]", "a[:]"),
        ("a[k::2]", "a[::2]"),
        ("a[::-1]", "a"),
        ("release(a)", "pass"),
        ("def f(a=2): ...", "def f(a=3): ..."),
        ("def f() -> bool: return a", "def f() -> bool: return (not a)"),
        ("def f() -> float: return a", "def f() -> float: return (-a)"),
        ("def f() -> str: return a", "def f() -> str: return None"),
        ("if a: raise b", "if False: raise b"),
        ("x += 1", "x -= 1"),
    ],
)
def test_every_kind_of_change(mutate: ModuleType, source: str, changed: str) -> None:
    data = source.encode()
    assert changed in [found.applied(data).decode() for found in mutate.mutants("m.py", data)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Text: 1 < 2."""',
        "from __future__ import annotations",
        'x: Annotated[int, "1"]',
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "@cache(maxsize=8)\ndef f(): ...",
        "class A(Struct, frozen=True): ...",
        "raise ValueError(a + 1)",
        'x = f"{a + 1}"',
        'x = "a" + b',
        "if TYPE_CHECKING:\n    x = 1",
        'on_progress("reading", 1)',
        "assert a == 1",
        "print(a, b)",
        "for _ in zip(a, strict=True): ...",
        "x = a.astype(float, copy=False)",
    ],
)
def test_what_is_left_alone(mutate: ModuleType, source: str) -> None:
    assert mutate.mutants("m.py", source.encode()) == []


def test_a_slice_begins_at_zero_in_any_case(mutate: ModuleType) -> None:
    found = [mutant.new for mutant in mutate.mutants("m.py", b"x = a[0::2]")]
    assert found == ["1", "3"]


def test_lines_and_text_are_those_of_the_file(mutate: ModuleType) -> None:
    source = 'x = "ä"\ny = f("ö", a < b)\n'.encode()
    (found,) = [m for m in mutate.mutants("m.py", source) if m.kind == "comparison"]
    assert str(found) == "m.py:2 [comparison] a < b -> (a <= b)"
    assert found.applied(source).decode() == 'x = "ä"\ny = f("ö", (a <= b))\n'


def test_a_test_file_belongs_to_the_longest_name(mutate: ModuleType) -> None:
    modules = {"load", "load_images", "run"}
    assert mutate.owner("load_images_damaged", modules) == "load_images"
    assert mutate.owner("load_twice", modules) == "load"
    assert mutate.owner("loader", modules) is None


def test_tests_that_are_weak_leave_survivors(project: Path) -> None:
    done = run(project, "--json", "rows.json")
    assert done.returncode == 1, done.stdout + done.stderr
    survivors = [line for line in done.stdout.splitlines() if line.startswith("src/toy")]
    assert survivors == [
        "src/toy/area.py:7 [check left out] value > LIMIT -> False",
        "src/toy/area.py:7 [comparison] value > LIMIT -> (value >= LIMIT)",
    ]
    rows: list[dict[str, Any]] = json.loads((project / "rows.json").read_text())
    assert sorted({row["outcome"] for row in rows}) == ["killed", "survived"]
    assert (project / "src/toy/area.py").read_text() == MODULE
    assert [path.name for path in project.iterdir() if path.name.startswith("mutate-")] == []


def test_all_files_of_a_module_are_run(project: Path) -> None:
    (project / "tests/test_area_limit.py").write_text(MORE_TESTS)
    done = run(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(100%)" in done.stdout


def test_tests_that_never_end_have_noticed(project: Path) -> None:
    loop = "def count(n):\n    i = 0\n    while i < n:\n        i += 1\n    return i\n"
    (project / "src/toy/area.py").write_text(loop)
    (project / "tests/test_area.py").write_text(
        "from toy.area import count\n\ndef test_count():\n    assert count(3) == 3\n"
    )
    done = run(project, "--lines", "4", "--patience", "1", "--json", "rows.json")
    rows = json.loads((project / "rows.json").read_text())
    assert {row["old"]: row["outcome"] for row in rows} == {"i += 1": "timeout", "1": "killed"}
    assert done.returncode == 0


def test_tests_that_fail_anyway_say_nothing(project: Path) -> None:
    (project / "tests/test_area.py").write_text("def test_it():\n    assert False\n")
    done = run(project)
    assert done.returncode == 2
    assert "fail without a change" in done.stderr


def test_a_module_without_tests_is_an_error(project: Path) -> None:
    (project / "tests/test_area.py").unlink()
    done = run(project)
    assert done.returncode == 2
    assert "has no tests of its name" in done.stderr
