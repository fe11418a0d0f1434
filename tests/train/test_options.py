"""Options of a finetuning: which values of the recipe they replace, which sets they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidInput
from seatrial.train.options import FinetuneOptions
from seatrial.train.plan import Data


def options(**given: object) -> FinetuneOptions:
    return FinetuneOptions(**{"trainer": "transformers", "data": "yolo:here", **given})  # type: ignore[arg-type]


def test_only_given_values_replace_those_of_the_recipe() -> None:
    assert options().overrules() == {}
    assert options(epochs=3).overrules() == {"epochs": 3}
    assert options(batch=4, device="cpu").overrules() == {"batch": 4, "compute": {"device": "cpu"}}
    assert options(processes=2).overrules() == {"compute": {"processes": 2}}


def test_nothing_is_begun_anew_or_replaced_unless_asked_for() -> None:
    assert (options().restart, options().replace) == (False, False)


def test_sets_are_named_by_absolute_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert options().sets() == Data(f"yolo:{tmp_path / 'here'}", None)
    found = options(val="coco:other").sets()
    assert found.val == f"coco:{tmp_path / 'other'}"
    assert options(data="yolo").sets().train == "yolo"


def test_the_base_is_an_artifact_or_an_architecture(tiny_artifact: Artifact) -> None:
    scratch = options(trainer="ultralytics").base("scratch:yolo11n", None)
    assert (scratch.scratch, scratch.path) == (True, "yolo11n")
    with pytest.raises(InvalidInput, match="no weights that --trainer transformers can train"):
        options().base("tiny", tiny_artifact)
