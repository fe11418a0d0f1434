"""The rules of the tests themselves: they mirror the source and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src" / "seatrial"
# Modules of this size have a test file of their name.
LINES = 60
# Test files that are of no one module, and why.
OF_MANY = {
    "test_architecture.py": "who imports whom, in all of the source",
    "test_suite.py": "this one",
    "test_tutorial.py": "a page of docs",
    "test_glossary.py": "a page of docs, and the names in all of the source",
    "test_readme.py": "pages of docs",
    "test_figures.py": "pages of docs, and benchmarks/results",
    "test_install.py": "the wheel, its extras and pyproject.toml",
    "test_install_pythons.py": "the wheel and pyproject.toml",
    "test_install_resolved.py": "the wheel, pyproject.toml, constraints.txt and pages of docs",
    "test_documentation.py": "pages of docs",
    "scripts/test_audit.py": "a script",
    "scripts/test_mutate.py": "a script",
    "scripts/test_site.py": "a script, and the site that it builds",
    "scripts/test_rooms.py": "a script, and the page that it writes",
    "scripts/test_reference.py": "a script, and the page that it writes",
    "demo/test_browser.py": "the pages of both applications in a real browser",
}
# Modules that have no test file of their name so far; one that has goes from here, none is added.
NOT_YET = """
    demo/gradio_app.py
"""
NOT_YET_NAMED = """
"""


def owner(name: str, modules: set[str]) -> str | None:
    """The module that ``test_<name>.py`` is of: the longest one that the name begins with."""
    parts = name.split("_")
    starts = ("_".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((start for start in starts if start in modules), None)


def owners() -> dict[str, Path | None]:
    """Test file -> module, both from the root of their trees."""
    found: dict[str, Path | None] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        folder = path.parent.relative_to(TESTS)
        modules = {file.stem for file in (SOURCE / folder).glob("*.py")}
        name = owner(path.stem.removeprefix("test_"), modules)
        found[str(path.relative_to(TESTS))] = folder / f"{name}.py" if name else None
    return found


def test_a_test_file_belongs_to_the_longest_name() -> None:
    modules = {"load", "load_images", "run"}
    assert owner("load_images_damaged", modules) == "load_images"
    assert owner("load_twice", modules) == "load"
    assert owner("loader", modules) is None


def test_every_test_file_names_a_module() -> None:
    unnamed = {test for test, module in owners().items() if module is None}
    assert unnamed - {*OF_MANY} - {*NOT_YET_NAMED.split()} == set()


def test_every_module_has_a_test_file() -> None:
    have = {str(module) for module in owners().values()}
    missing = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.name != "__init__.py"  # what it offers is tested with the room
        and len(path.read_text().splitlines()) > LINES
    } - have
    assert missing - {*NOT_YET.split()} == set()


def test_exceptions_are_there() -> None:
    assert [name for name in OF_MANY if not (TESTS / name).is_file()] == []


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(("name", "code"), [("seatrial-left", 1), ("pymp-left", 0)])
def test_what_is_left_in_the_temporary_folder_is_a_failure(
    tmp_path: Path, name: str, code: int, processes: str
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pathlib, tempfile\n"
        "def test_it(tmp_path):\n"
        "    assert tempfile.gettempdir() not in str(tmp_path)\n"
        f"    pathlib.Path(tempfile.gettempdir(), {name!r}).mkdir()\n"
    )
    place = tmp_path / "place"
    place.mkdir()
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "temporary_files", "-p", "no:cacheprovider",
         "-p", "xdist.plugin", "--rootdir", str(tmp_path), "-n", processes, "test_it.py"],
        cwd=tmp_path,
        env=environment | {
            "PYTHONPATH": str(TESTS / "support"),
            "TMPDIR": str(place),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # seconds, of plugins that are not used
        },
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert (name in done.stdout) == bool(code)
    assert [path.name for path in place.iterdir() if not path.name.startswith("pytest-of")] == []


def test_no_test_is_named_by_an_address(request: pytest.FixtureRequest) -> None:
    """Processes of a run in parallel must find the same names."""
    assert [item.nodeid for item in request.session.items if " at 0x" in item.nodeid] == []
