"""mAP on the validation set during training, by the code that measures artifacts.

The network runs as a module (`seatrial.models.torch_modules`), behind the same decoding,
preprocessing and postprocessing that serve it later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seatrial.accuracy.evaluate import Scores, score
from seatrial.accuracy.matching import Matches, Predictions
from seatrial.accuracy.predict import InProcess, predict
from seatrial.artifact import Artifact
from seatrial.datasets.labels import LabelledSet, match_labels
from seatrial.detect.detector import Detector
from seatrial.engines.torch_module import ModuleEngine
from seatrial.manifest import Manifest
from seatrial.models.torch_modules import image_module


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Normalisation of pixel values: division by `scale`, then mean and deviation if given."""

    scale: float = 255.0
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """Detections of a network on the validation set, and their scores."""

    scores: Scores
    matches: Matches
    predictions: Predictions


class Validator:
    """Measures networks on one set.

    Args:
        manifest: Canvas, inputs, outputs and labels of the networks.
        normalisation: Normalisation of pixel values.
        dataset: The validation set.
        device: Device of the networks.
        rank: Rank of this process.
        world: Number of processes; they share the images.

    Raises:
        InvalidDataset: The set labels nothing that the networks know.
    """

    def __init__(
        self,
        manifest: Manifest,
        normalisation: Normalisation,
        dataset: LabelledSet,
        *,
        device: str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.dataset = dataset
        self._manifest = manifest
        self._normalisation = normalisation
        self._device = device
        self._world = world
        self._matched = match_labels(manifest.labels, dataset)
        self._own = np.arange(rank, len(dataset.images), world)

    def measure(self, network: Any) -> Validation:
        """Measure a network; each of several processes gets the whole result.

        Args:
            network: ``torch.nn.Module``; in evaluation mode afterwards.
        """
        found = self._gather(self._predict(network))
        matches, scores = score(self.dataset, found)
        return Validation(scores, matches, found)

    def _predict(self, network: Any) -> Predictions:
        module = image_module(
            network,
            self._manifest,
            scale=self._normalisation.scale,
            mean_std=self._normalisation.mean_std,
        )
        module.to(self._device)
        engine = ModuleEngine(module, self._manifest, self._device)
        with Detector(Artifact(Path(), self._manifest, ""), engine) as detector:
            share = replace(self.dataset, images=tuple(self.dataset.images[i] for i in self._own))
            found = predict(InProcess(detector), share, self._matched)
        return replace(found, image=self._own[found.image])

    def _gather(self, own: Predictions) -> Predictions:
        if self._world == 1:
            return own
        import torch.distributed

        parts: list[Any] = [None] * self._world
        torch.distributed.all_gather_object(parts, own)
        fields = ("image", "category", "xywh", "score")
        joined = Predictions(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
        )
        # image after image, as one process finds them
        return joined.take(np.argsort(joined.image, kind="stable"))
