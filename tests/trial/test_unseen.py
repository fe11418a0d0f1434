"""What a model has seen is known by the digests of labels in its lineage."""

from __future__ import annotations

from pathlib import Path

import msgspec

from seatrial.artifact import Artifact
from seatrial.manifest import Manifest, Step
from seatrial.trial.unseen import seen_before


def made_by(artifact: Artifact, name: str, step: Step) -> Artifact:
    manifest: Manifest = msgspec.structs.replace(artifact.manifest, name=name, step=step)
    return Artifact(Path(), manifest, name)


def test_training_and_validation_images_are_named_with_the_model(tiny_artifact: Artifact) -> None:
    trained = made_by(tiny_artifact, "digits", Step("finetune", {"train": "a", "val": "b"}))
    lineage = [made_by(tiny_artifact, "digits-int8", Step("compress-int8")), trained]
    assert seen_before(lineage, "b").startswith("the same images chose the epoch of digits,")
    assert seen_before(lineage, "a").startswith("the same images trained digits,")
    assert seen_before(lineage, "c") == ""
    assert seen_before([], "a") == ""


def test_other_steps_and_finetunings_without_digests_have_seen_nothing(
    tiny_artifact: Artifact,
) -> None:
    others = [Step("export", {"val": "b"}), Step("finetune"), Step("finetune", {"val": ""})]
    assert seen_before([made_by(tiny_artifact, "x", step) for step in others], "b") == ""
