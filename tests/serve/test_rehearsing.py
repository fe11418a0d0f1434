"""The process that tries an artifact before it is swapped in: its priority, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.deployment import Deployment, Reload
from seatrial.errors import InvalidConfig, NotSwapped
from seatrial.serve import rehearsing
from seatrial.serve.rehearsing import (
    COMMAND_LINE,
    check_rules,
    rehearse_apart,
    without_comparison,
)


@pytest.mark.parametrize(
    ("program", "said", "hint"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"\(SIGKILL\); was there too little memory", ""),
        ("import os; os.kill(os.getpid(), 11)", r"that tried it \(SIGSEGV\)$", ""),
        ("import sys; sys.exit('x\\nerror: no such model\\nhint: import it')", "^no such model$",
         "import it"),
        ("raise SystemExit('lost')", "^lost$", ""),
        ("pass", "ended without a word; was there too little memory", ""),
    ],
)  # fmt: skip
def test_a_trial_that_fails_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, said: str, hint: str
) -> None:
    monkeypatch.setattr(rehearsing, "COMMAND_LINE", program)
    with pytest.raises(NotSwapped, match=said) as failed:
        rehearse_apart("other", tmp_path, "served", Deployment("tiny"), tmp_path)
    assert failed.value.hint == hint


def test_what_a_model_is_tried_on_has_to_be_there_at_the_start(tmp_path: Path) -> None:
    check_rules(Reload())
    (tmp_path / "empty").mkdir()
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "c"\n[accuracy]\nap50 = 0.5\n')
    here = f"coco:{tmp_path}"
    for rules, said in (
        (Reload(images=str(tmp_path / "nope")), "reload.images: .*nope does not exist"),
        (Reload(images=str(tmp_path / "empty")), "reload.images: there is no image in .*empty"),
        (Reload(images=str(contract)), "reload.images: there is no image in"),
        (Reload(dataset=f"{here}/nope", contract=str(contract)), "reload.dataset: .*nope does"),
        (Reload(dataset=here, contract=f"{contract}x"), "contract.tomlx cannot be read"),
    ):
        with pytest.raises(InvalidConfig, match=said) as caught:
            check_rules(rules)
        assert caught.value.hint
    check_rules(Reload(dataset=here, contract=str(contract)))


def test_a_trial_ends_when_who_asked_has_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = tmp_path / "number"
    endless = (
        "import os, time; "
        f"open({str(number)!r} + '-', 'w').write(str(os.getpid())); "
        f"os.rename({str(number)!r} + '-', {str(number)!r}); "
        "time.sleep(3600)"
    )
    monkeypatch.setattr(rehearsing, "COMMAND_LINE", endless)
    with pytest.raises(NotSwapped, match=r"who asked for other has left .* nothing is changed"):
        rehearse_apart("other", tmp_path, "served", Deployment("t"), tmp_path, number.exists)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_a_rehearsal_gives_way_from_its_first_import_on(tmp_path: Path) -> None:
    """Its imports take a second of a core, beside a service at work."""
    package = tmp_path / "seatrial" / "cli"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "main.py").write_text("import os\nprint(os.nice(0))\ndef main(): pass\n")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE], cwd=tmp_path, capture_output=True, text=True,
        check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "19\n"


def test_a_rehearsal_without_boxes_says_so() -> None:
    assert not without_comparison({"images": 4, "comparison": {"agreement": {"share": 1.0}}})
    words = without_comparison({"images": 4, "comparison": {"agreement": None}})
    assert words.startswith("tried on 4 images; no box was compared: neither reports one on them")
