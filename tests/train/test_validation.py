"""mAP during a training: the same as of one process, whatever shares the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seatrial.errors import InvalidDataset
from seatrial.train.plan import TrainingPlan, canvas, read_facts, read_sets
from seatrial.train.validation import Normalisation, Validator

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def network(transformers: Any, settle_plan: Callable[..., TrainingPlan]) -> tuple[Any, Any, Any]:
    """A small network with random weights, its manifest and the validation set."""
    import msgspec

    from seatrial.models.import_checkpoint import transformers_manifest
    from seatrial.train import network as networks

    plan = settle_plan("lightning", "rt_detr", "")
    from pathlib import Path

    facts = read_facts(Path(plan.base.path))
    facts = msgspec.structs.replace(facts, labels=plan.labels, preprocessing=canvas(plan))
    manifest = transformers_manifest(facts, name="mine")
    return networks.build(plan)[0], manifest, read_sets(plan.data.train, None)[1]


def test_a_network_is_measured_and_left_in_evaluation_mode(network: tuple[Any, Any, Any]) -> None:
    module, manifest, dataset = network
    module.train()
    found = Validator(manifest, Normalisation(), dataset).measure(module)
    assert not module.training
    assert len(found.predictions.score) > 0
    assert set(found.predictions.image.tolist()) <= set(range(8))
    assert found.scores.figures.ap is not None
    assert 0 <= found.scores.figures.ap < 0.5


def test_processes_that_share_the_images_get_what_one_process_gets(
    network: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.distributed

    module, manifest, dataset = network
    alone = Validator(manifest, Normalisation(), dataset).measure(module).predictions
    ranks = [Validator(manifest, Normalisation(), dataset, rank=r, world=3) for r in range(3)]
    shares = [rank._predict(module) for rank in ranks]
    assert [sorted(set(share.image.tolist())) for share in shares] == [[0, 3, 6], [1, 4, 7], [2, 5]]

    def gather(parts: list[Any], own: Any) -> None:
        parts[:] = shares

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    together = ranks[1].measure(module).predictions
    for name in ("image", "category", "xywh", "score"):
        assert np.array_equal(getattr(together, name), getattr(alone, name)), name


def test_a_set_without_the_networks_classes_is_refused(network: tuple[Any, Any, Any]) -> None:
    import msgspec

    _, manifest, dataset = network
    other = msgspec.structs.replace(manifest, labels=("a", "b", "c"))
    with pytest.raises(InvalidDataset):
        Validator(other, Normalisation(), dataset)
