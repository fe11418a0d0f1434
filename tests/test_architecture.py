"""The rules of the house that a machine can check: who imports whom, what loads, how long."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.serve.service_folder import environment, write_service

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted((SOURCE / "seatrial").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}
# Rooms in the direction of reading: each imports only those before it.
ROOMS = (
    "errors", "progress", "system", "config", "gate", "report", "conditions", "manifest",
    "artifact", "contract", "deployment", "engines", "graphs", "detect", "client", "video",
    "models", "datasets", "accuracy", "export", "quantise", "train", "serve", "load", "bench",
    "trial", "rehearsal", "doctor", "project", "api", "demo", "cli",
)  # fmt: skip
# Room -> rooms before it that it does not import all the same; "*" for all but those of `PLAIN`.
PLAIN = ("errors", "progress")
FORBIDDEN = {
    "system": ("*",),
    "report": ("config", "system"),  # draws what others measured, and verdicts
    "graphs": ("artifact",),
    "client": ("artifact", "engines", "graphs", "manifest", "report"),
    "load": (
        "manifest", "artifact", "contract", "deployment", "engines", "detect", "models", "datasets",
        "accuracy", "serve",
    ),
    "bench": (
        "manifest", "artifact", "engines", "detect", "models", "datasets", "accuracy", "serve",
    ),
    "trial": ("engines", "detect", "models", "serve"),
    "serve": ("models", "datasets", "accuracy", "export", "quantise", "train"),
    "demo": ("bench", "load", "api"),
}  # fmt: skip
HEAVY = (
    "torch",
    "onnxruntime",
    "openvino",
    "bentoml",
    "ray",
    "onnx",
    "transformers",
    "tensorrt",
    "huggingface_hub",
    "modelscope_hub",
)
MAX_LINES = 500
# "seatrial.engines.null:NullEngine" in a table, "seatrial.x.y" given to importlib or to require().
NAMED = re.compile(r"seatrial(\.[a-z_][a-z0-9_]*)+(?=$|:)")


@functools.cache
def imports(module: str, path: Path) -> tuple[tuple[str, int], ...]:
    """Seatrial modules that a file names: imported, in functions too, or in a string."""
    return (*_named(module, path),)


def _named(module: str, path: Path) -> Iterator[tuple[str, int]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in MODULES else base), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            found = NAMED.match(node.value)
            if found and (found.end() < len(node.value) or found[0] in MODULES):
                yield found[0], node.lineno


def docstrings(tree: ast.AST) -> set[ast.AST]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr)
    }


def part(module: str) -> str:
    return [*module.split("."), ""][1]


def arrows(module: str) -> Iterator[tuple[str, int]]:
    """Other modules that a module imports, with the line; from the root only its version."""
    for name, line in imports(module, MODULES[module]):
        if name in MODULES and name not in (module, "seatrial"):
            yield name, line


def allowed(room: str, other: str) -> bool:
    """Whether a room may import another one."""
    banned = FORBIDDEN.get(room, ())
    if other in banned or ("*" in banned and other not in PLAIN):
        return False
    return ROOMS.index(other) < ROOMS.index(room)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan, 1972)."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            cut = stack.index(node)
            group = sorted(stack[cut:])
            del stack[cut:]
            if len(group) > 1:
                found.append(group)

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return sorted(found)


def test_the_reader_of_imports_sees_them_all(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(
        '"""seatrial.load.run:Prose is not an import."""\n'
        "import seatrial.errors\n"
        "from seatrial import artifact\n"
        "from ..engines import null\n"
        "TABLE = {'a': 'seatrial.engines.openvino:OpenVinoEngine'}\n"
        "def late():\n"
        "    from seatrial.detect.decode import decode\n"
        "    import_module('seatrial.serve.app')\n"
    )
    assert {name for name, _ in imports("seatrial.detect.sample", file)} == {
        "seatrial.errors",
        "seatrial.artifact",
        "seatrial.engines.null",
        "seatrial.engines.openvino",
        "seatrial.detect.decode",
        "seatrial.serve.app",
    }


def test_every_room_has_its_place() -> None:
    found = {part(module) for module in MODULES} - {""}
    assert sorted(found) == sorted(room for room in ROOMS if room in found)
    assert {*FORBIDDEN} | {room for rooms in FORBIDDEN.values() for room in rooms} <= {*ROOMS, "*"}


@pytest.mark.parametrize("room", ROOMS)
def test_who_imports_whom(room: str) -> None:
    broken = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if part(module) == room
        for name, line in arrows(module)
        if part(name) != room and not allowed(room, part(name))
    ]
    assert broken == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"e", "a"}}
    assert circles(graph) == [["b", "c"], ["e", "f"]]


def siblings(edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Imports between the children of each package: a subpackage is one node with all it holds.

    Where this graph has no circle, files have none either.
    """
    graph: dict[str, set[str]] = {}
    for module, name in edges:
        ours, theirs = module.split("."), name.split(".")
        depth = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        here, there = ".".join(ours[: depth + 1]), ".".join(theirs[: depth + 1])
        graph.setdefault(here, set()).add(there)
        graph.setdefault(there, set())
    return graph


def test_a_subpackage_counts_as_one() -> None:
    """No file of these imports itself by way of others, and the subpackages do."""
    edges = [("p.hubs.pull", "p.read"), ("p.read", "p.sources.a"), ("p.sources.b", "p.hubs.pull")]
    assert circles(siblings(edges)) == [["p.hubs", "p.read", "p.sources"]]
    assert circles(siblings([("p.upper", "p.sub.a"), ("p.sub.a", "p.lower")])) == []


def test_children_of_a_package_import_in_one_direction() -> None:
    """At every depth; imports in functions count, and modules that a table names."""
    own = {m: f"{m}.__init__" for m, path in MODULES.items() if path.name == "__init__.py"}
    edges = [
        (own.get(module, module), own.get(name, name))
        for module in MODULES
        for name, _ in arrows(module)
    ]
    assert circles(siblings(edges)) == []


def test_every_seatrial_module_that_is_named_exists() -> None:
    missing = [
        f"{module}:{line} names {name}"
        for module, path in MODULES.items()
        for name, line in imports(module, path)
        if name.startswith("seatrial.") and name not in MODULES
    ]
    assert missing == []


LOADED = "import sys; print(*sorted(m for m in {heavy!r} if m in sys.modules))"


def loaded_after(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + "\n" + LOADED.format(heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()


def test_the_probe_sees_what_is_loaded() -> None:
    assert loaded_after("import onnx") == ["onnx"]


@pytest.mark.parametrize(
    "module",
    ["seatrial", "seatrial.demo.opening",
     "seatrial.errors", "seatrial.artifact", "seatrial.contract", "seatrial.system.hardware",
     "seatrial.detect.detector", "seatrial.engines.registry", "seatrial.detect.families.registry",
     "seatrial.models.resolve", "seatrial.cli.main"],
)  # fmt: skip
def test_import_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == []


SERVING = """
import sys
from pathlib import Path
from seatrial.deployment import Thresholds
from seatrial.serve.runtimes import worker
from seatrial.serve.runtimes.served import Served

served = Served(Path(sys.argv[1]) / "deployment.toml")
served.application()
opened = served.open()
opened.dispatcher.detector.detect(Path(sys.argv[2]).read_bytes(), Thresholds())
opened.dispatcher.close()
print(*sorted(sys.modules))
"""
# What makes and judges models, and what it needs; and the supervisor, which takes long to import.
WORKSHOP = (
    "bentoml",
    "circus",
    "onnx",
    "torch",
    "transformers",
    "nncf",
    "onnxscript",
    "ultralytics",
    "lightning",
)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_served_process_loads_the_engine_and_nothing_that_makes_models(
    engine: str, tiny_artifact: Artifact, photo: bytes, tmp_path: Path
) -> None:
    """As a worker does in each runtime: a folder's service, opened, with a request answered."""
    deployment = Deployment("m", engine=engine, layout=CoreLayout(workers=1))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    (tmp_path / "photo.jpg").write_bytes(photo)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVING, folder, tmp_path / "photo.jpg"],
        env=environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert engine in loaded
    assert loaded & set(WORKSHOP) == set()
    ours = {part(module) for module in loaded if module.startswith("seatrial.")}
    later = ROOMS[ROOMS.index("serve") + 1 :]
    assert ours & {*FORBIDDEN["serve"], *later} == set()
    assert {"serve", "detect", "engines"} <= ours


def test_import_seatrial_loads_next_to_nothing() -> None:
    code = (
        "import sys; before = {*sys.modules}; import seatrial, seatrial as s; dir(s)\n"
        "print(*sorted({m.partition('.')[0] for m in {*sys.modules} - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} - {*sys.stdlib_module_names} == {"seatrial"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import contextlib, sys\n"
        "from seatrial.cli.main import main\n"
        "sys.argv = ['seatrial', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()"
    )
    assert loaded_after(code) == []


def test_engines_in_the_table_load_no_runtime_until_they_are_opened() -> None:
    code = (
        "from seatrial.engines.registry import ENGINES, engine_class\n"
        "for name in ENGINES:\n"
        "    engine_class(name)"
    )
    assert loaded_after(code) == []


def test_files_are_easy_to_hold_in_the_head() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_no_file_is_called_after_nothing_in_particular() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [path for path in FILES if path.stem in vague] == []


def test_the_environment_is_read_at_the_edges_only() -> None:
    """In commands, for programs, and at service start-up; elsewhere it is an argument."""
    readers = [
        f"{module}:{node.lineno}"
        for module, path in MODULES.items()
        if part(module) not in ("api", "cli", "serve")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert readers == []
