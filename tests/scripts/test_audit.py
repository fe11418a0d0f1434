"""The audit of the pinned dependencies: what each outcome of pip-audit becomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOUND = {"name": "a", "version": "1", "vulns": []}
WEAK = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["2.1"]}],
}
MISSING = {"name": "c", "skip_reason": "Dependency not found"}

pytestmark = pytest.mark.usefixtures("time_limit")


def run(folder: Path, outcomes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The script with a pip-audit whose databases have these contents: a text is an error."""
    (folder / "pip_audit.py").write_text(
        "import json, sys\n"
        f"outcomes = json.loads({json.dumps(outcomes)!r})\n"
        "found = outcomes[sys.argv[sys.argv.index('--vulnerability-service') + 1]]\n"
        "if isinstance(found, str):\n    sys.exit(found)\n"
        "print(json.dumps({'dependencies': found}))\n"
    )
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit")],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_known_against_them(tmp_path: Path) -> None:
    done = run(tmp_path, {"pypi": [SOUND] * 9 + [MISSING], "osv": "not asked"})
    assert (done.returncode, done.stderr) == (0, "not known to pypi: c\n")
    assert done.stdout == "9 packages were looked up at pypi, 0 have known weaknesses\n"


def test_a_weakness_is_named_with_its_cure(tmp_path: Path) -> None:
    done = run(tmp_path, {"pypi": [SOUND, WEAK], "osv": []})
    assert done.returncode == 1
    assert "b 2: PYSEC-1 CVE-2; mended in 2.1" in done.stdout


def test_a_mirror_without_a_database_is_no_clean_bill(tmp_path: Path) -> None:
    done = run(tmp_path, {"pypi": [MISSING] * 3, "osv": [WEAK]})
    assert done.returncode == 1
    assert "the database of pypi cannot be asked: it knows 0 of 3 packages" in done.stderr
    assert "looked up at osv" in done.stdout


def test_no_database_at_all_has_a_code_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, {"pypi": [MISSING], "osv": "no route to host"})
    assert (done.returncode, done.stdout) == (3, "")
    assert "no route to host" in done.stderr
    assert done.stderr.endswith("nothing was audited: run this where a database can be reached\n")
