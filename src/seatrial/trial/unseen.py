"""Whether a model has seen the images that it is judged on: in training, or to choose an epoch."""

from __future__ import annotations

from collections.abc import Iterable

from seatrial.artifact import Artifact

# Key in the configuration of a finetuning -> what was done with the set of that digest.
USES = {"train": "trained", "val": "chose the epoch of"}


def seen_before(lineage: Iterable[Artifact], labels_digest: str) -> str:
    """Words for the use that training made of a set of images; empty for new images.

    A set is known by its labels, not by its pixels: images that another set repeats are not
    found. See ``seatrial data check`` for those.

    Args:
        lineage: The artifact and those that it was made of.
        labels_digest: `LabelledSet.digest` of the images.
    """
    for artifact in lineage:
        step = artifact.manifest.step
        for key, use in USES.items():
            if step.name == "finetune" and step.config.get(key) == labels_digest:
                return (
                    f"the same images {use} {artifact.manifest.name}, so its accuracy on them is "
                    "better than on new ones: judge on images that it has not seen (--split test)"
                )
    return ""
