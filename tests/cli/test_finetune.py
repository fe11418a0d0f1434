"""``seatrial finetune`` from labelled pictures to an artifact in the store."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.cli.finetune import finetune
from seatrial.config import decode_toml
from seatrial.errors import InvalidInput, TrainingFailed
from seatrial.train.options import FinetuneOptions
from seatrial.train.recipe import Recipe
from seatrial.train.report import REPORT_FILE, REPORT_PAGE, TrainingReport
from seatrial.train.run import TRAINED

HELPERS = Path(__file__).parents[1] / "support" / "training_sets.py"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

RECIPE = """
epochs = 2
batch = 8
[optimiser]
learning_rate = 1e-3
[compute]
threads = 1
[diagnosis]
action = "warn"
"""


def helpers() -> Any:
    """Builders of small sets and networks: see tests/support/training_sets.py."""
    spec = importlib.util.spec_from_file_location("finetune_builders", HELPERS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, the weights of a network that knows other things, and a recipe."""
    pytest.importorskip("accelerate", reason="accelerate is not installed: seatrial[train]")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    folder, build = tmp_path_factory.mktemp("finetune"), helpers()
    build.build_images(folder / "set", {"train": 24, "val": 8})
    network = build.build_networks(transformers, folder / "networks")["detr"]
    config = transformers.AutoConfig.from_pretrained(network)
    config.id2label, config.label2id = {0: "cat", 1: "dog"}, {"cat": 0, "dog": 1}
    transformers.set_seed(0)
    transformers.AutoModelForObjectDetection.from_config(config).save_pretrained(network)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def made(place: Path) -> Iterator[tuple[Store, Path]]:
    """The store and the home after one finetuning."""
    home, build = place / "home", helpers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEATRIAL_HOME", str(home))
        for name, value in build.support_environment().items():
            patch.setenv(name, value)
        finetune(
            FinetuneOptions(
                trainer="transformers",
                data=f"yolo:{place / 'set'}",
                recipe=place / "recipe.toml",
            ),
            base=str(place / "networks" / "detr"),
            name="colours",
        )
        yield Store(home / "artifacts"), home


@pytest.fixture
def artifact(made: tuple[Store, Path]) -> Artifact:
    return made[0].open("colours")


def test_the_artifact_went_through_export_and_names_its_forebears(
    made: tuple[Store, Path], artifact: Artifact
) -> None:
    checkpoint = made[0].open("colours-checkpoint")
    (base,) = map(made[0].open, made[0].imports.names())
    assert artifact.manifest.step.name == "export"
    assert artifact.manifest.parent == checkpoint.digest
    assert checkpoint.manifest.step.name == "finetune"
    assert checkpoint.manifest.parent == base.digest
    assert checkpoint.manifest.step.config["new_head"] is True
    assert (artifact.path / "export.json").is_file()
    assert artifact.manifest.labels == ("red", "green", "blue")
    assert artifact.manifest.metrics["coco_ap.base"] == 0.0
    assert "coco_ap" in artifact.manifest.metrics
    assert not [*made[0].root.glob(".staging-*")]


def test_the_report_compares_with_the_base_on_the_same_images(artifact: Artifact) -> None:
    report = msgspec.json.decode((artifact.path / REPORT_FILE).read_bytes(), type=TrainingReport)
    assert report.before is not None
    assert report.before.note == "it knows none of the classes"
    assert report.difference is not None
    assert report.difference.images == report.validation["pictures"] == 8
    assert report.new_head
    assert [row.epoch for row in report.epochs] == [1, 2]
    assert report.after.figures.ap == pytest.approx(artifact.manifest.metrics["coco_ap"])
    assert "Confusion matrix" in (artifact.path / REPORT_PAGE).read_text()


def test_a_name_that_is_taken_is_refused_before_hours_are_spent(
    made: tuple[Store, Path], place: Path
) -> None:
    with pytest.raises(InvalidInput, match="already has another artifact named 'colours'"):
        finetune(
            FinetuneOptions(
                trainer="transformers",
                data=f"yolo:{place / 'set'}",
                recipe=place / "recipe.toml",
            ),
            base="scratch:" + str(place / "networks" / "detr"),
            name="colours",
        )


def test_labels_in_another_format_end_it_before_the_first_step(
    made: tuple[Store, Path], place: Path, tmp_path: Path
) -> None:
    source, wrong = place / "set", tmp_path / "wrong"
    wrong.mkdir()
    boxes = [[70, 70, 90, 90], [60, 50, 95, 80], [20, 60, 90, 95], [5, 80, 40, 94]]
    for split in ("train", "val"):
        names = sorted(p.name for p in (source / "images" / split).iterdir())[:4]
        (wrong / "annotations").mkdir(exist_ok=True)
        document = {
            "images": [
                {"id": i, "file_name": n, "width": 96, "height": 96} for i, n in enumerate(names)
            ],
            "annotations": [
                {"id": i + 1, "image_id": i, "category_id": 0, "bbox": boxes[i]} for i in range(4)
            ],
            "categories": [{"id": 0, "name": "red"}],
        }
        (wrong / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    (wrong / "images").symlink_to(source / "images")
    for split in ("train", "val"):
        (wrong / split).symlink_to(source / "images" / split)
    with pytest.raises(TrainingFailed, match=r"\[left, top, right, bottom\]"):
        finetune(
            FinetuneOptions(trainer="transformers", data=f"coco:{wrong}"),
            base="scratch:" + str(place / "networks" / "detr"),
            name="wrong",
        )
    assert not (made[1] / "runs" / "wrong" / TRAINED).exists()
    assert "wrong" not in made[0].names()


def test_the_whole_recipe_is_shown_with_its_sources(
    made: tuple[Store, Path], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(
        FinetuneOptions(trainer="lightning", data="yolo:nowhere", epochs=7),
        base="scratch:" + str(place / "networks" / "d_fine"),
        name="shown",
        show_recipe=True,
    )
    text = capsys.readouterr().out
    assert "# github.com/Peterande/D-FINE" in text
    assert decode_toml(text.encode(), Recipe, origin="").epochs == 7
