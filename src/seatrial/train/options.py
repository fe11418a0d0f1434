"""Options of a finetuning, as the command line takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seatrial.artifact import Artifact
from seatrial.train.plan import SCRATCH, Base, Data, Trainer, base_of, scratch_base


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions:
    """Options of a finetuning.

    Attributes:
        trainer: transformers or lightning: DETR, RT-DETR, RT-DETRv2, D-FINE. ultralytics: YOLO11
            and its siblings (AGPL-3.0).
        data: yolo:FOLDER with a data.yaml, or coco:FOLDER; its splits train and val.
        recipe: TOML file, see docs/guides/finetune.md [default: as the family was published].
        val: Another set to validate on [default: that of --data].
        epochs: Number of epochs; replaces that of the recipe.
        batch: Images of one step, over all processes; replaces that of the recipe.
        device: Device; replaces that of the recipe.
        processes: Number of processes that share each batch; replaces that of the recipe.
        track: Show figures during the training: tensorboard or mlflow, in the run's folder.
        restart: Begin anew, whatever the run's folder holds.
        replace: Replace artifacts of that name.
    """

    trainer: Trainer
    data: str
    recipe: Path | None = None
    val: str | None = None
    epochs: int | None = None
    batch: int | None = None
    device: Literal["cpu", "cuda"] | None = None
    processes: int | None = None
    track: Literal["tensorboard", "mlflow"] | None = None
    restart: bool = False
    replace: bool = False

    def overrules(self) -> dict[str, Any]:
        """Values that replace those of the recipe, in its tables."""
        compute = {"device": self.device, "processes": self.processes}
        given = {"epochs": self.epochs, "batch": self.batch, "compute": _given(compute)}
        return {key: value for key, value in _given(given).items() if value != {}}

    def sets(self) -> Data:
        """The specs of both sets, with absolute folders: a run may resume from another folder."""
        return Data(_absolute(self.data), None if self.val is None else _absolute(self.val))

    def base(self, name: str, artifact: Artifact | None) -> Base:
        """The model that the training starts from.

        Args:
            name: ``scratch:`` and an architecture; ignored where there is an artifact.
            artifact: Artifact that was named; None from scratch.

        Raises:
            InvalidInput: The artifact has no weights for the trainer, or there is no such
                architecture.
        """
        if artifact is None:
            return scratch_base(name.removeprefix(SCRATCH), self.trainer)
        return base_of(artifact, self.trainer)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _absolute(spec: str) -> str:
    kind, colon, where = spec.partition(":")
    return f"{kind}:{Path(where).expanduser().absolute()}" if colon and where else spec
