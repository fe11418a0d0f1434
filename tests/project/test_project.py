"""A new project: its files are read by the same code that the commands read them with."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from seatrial.cli.init import init
from seatrial.cli.main import build
from seatrial.contract import Contract
from seatrial.deployment import Deployment
from seatrial.errors import InvalidInput, NotWritable
from seatrial.project.project import BASES, FILES, ProjectOptions, create

pytestmark = pytest.mark.slow


@pytest.fixture(params=BASES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    create(tmp_path / "my-app", ProjectOptions(name="my-app", trainer=request.param))
    return tmp_path / "my-app"


def test_all_files_are_there_and_filled_in(project: Path):
    written = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    (wheel,) = (project / "wheels").iterdir()
    assert written == {*FILES.values(), f"wheels/{wheel.name}"}
    assert f"./wheels/{wheel.name}[all," in (project / "Makefile").read_text()
    for name in FILES.values():
        assert not re.search(r"\{\{\w", (project / name).read_text()), name


def test_the_readme_says_where_a_base_is_fetched_that_no_hub_has(project: Path):
    readme, makefile = (project / "README.md").read_text(), (project / "Makefile").read_text()
    assert ("beside the Makefile" in readme) == ("yolo11n.pt" in makefile)
    assert "\n\n\n" not in readme


def test_contract_and_deployment_are_valid_and_go_together(project: Path):
    assert Contract.read(project / "contract.toml").name == "my-app"
    assert Deployment.read(project / "deployment.toml").model == "my-app-served"


def test_every_step_of_the_readme_is_a_target_whose_command_parses(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    """``make -n`` prints the commands; each is parsed by the command line, not run."""
    monkeypatch.chdir(project)
    steps = re.findall(r"^    make (\w+)", (project / "README.md").read_text(), re.MULTILINE)
    assert len(steps) == 9
    app = build()
    for step in steps:
        printed = subprocess.run(
            ["make", "-n", step, "SEATRIAL=seatrial"], capture_output=True, text=True, check=True
        ).stdout
        lines = [line for line in printed.splitlines() if line.startswith("seatrial ")]
        assert lines, step
        for line in lines:
            app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("base", ["a b", "$(shell touch made)", "a\nb:", "a;b", "-f", "a#b"])
def test_a_base_that_make_or_a_shell_would_obey_is_refused(tmp_path: Path, base: str):
    with pytest.raises(InvalidInput, match="cannot stand in a Makefile"):
        create(tmp_path / "new", ProjectOptions(name="parts", base=base))
    assert not (tmp_path / "new").exists()


def test_ci_runs_targets_of_the_makefile(project: Path):
    workflow = yaml.safe_load((project / ".github/workflows/check.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert commands == ["make check recipe"]
    targets = set(re.findall(r"^(\w+):", (project / "Makefile").read_text(), re.MULTILINE))
    assert {"check", "recipe"} <= targets


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "Gate Camera"
    with pytest.raises(InvalidInput, match="cannot name"):
        init(folder)
    with pytest.raises(InvalidInput, match="cannot name"):
        init(tmp_path / "gate", name="")
    assert list(tmp_path.iterdir()) == []
    init(folder, name="gate", json=True)
    assert "Makefile" in capsys.readouterr().out
    before = (folder / "Makefile").read_bytes()
    with pytest.raises(InvalidInput, match="holds files already"):
        init(folder, name="gate")
    assert (folder / "Makefile").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        init(tmp_path / "file" / "app")
