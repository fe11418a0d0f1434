"""Groups, schedule, average: what steps are taken with."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.train.plan import TrainingPlan
from seatrial.train.recipe import Ema, Schedule

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def optimise(transformers: Any) -> Any:
    from seatrial.train import step

    return step


@pytest.fixture(scope="module")
def network(settle_plan: Callable[..., TrainingPlan], transformers: Any) -> Callable[..., Any]:
    from seatrial.train import network as networks

    def build(kind: str, recipe: str = "") -> tuple[Any, TrainingPlan]:
        plan = settle_plan("transformers", kind, recipe)
        return networks.build(plan)[0], plan

    return build


@pytest.mark.parametrize("kind", ["detr", "rt_detr", "d_fine"])
def test_the_backbone_and_what_does_not_decay_have_groups_of_their_own(
    kind: str, network: Callable[..., Any], optimise: Any
) -> None:
    model, plan = network(kind)
    groups = optimise.optimiser(model, plan).param_groups
    settings = plan.recipe.optimiser
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert groups[0]["lr"] == settings.learning_rate
    held = {names[id(weight)] for group in groups for weight in group["params"]}
    assert held == {name for name, w in model.named_parameters() if w.requires_grad}
    for group in groups:
        for weight in group["params"]:
            name = names[id(weight)]
            inside = name.startswith("model.backbone.")
            wanted = settings.backbone_learning_rate if inside else settings.learning_rate
            assert group["lr"] == wanted
            decays = kind == "detr" or weight.ndim > 1
            assert group["weight_decay"] == (settings.weight_decay if decays else 0.0), name


def test_frozen_weights_are_not_trained_and_their_norms_keep_still(
    network: Callable[..., Any], optimise: Any
) -> None:
    from seatrial.train.network import NORMS, freeze, keep_frozen_norms

    model, plan = network("rt_detr", 'freeze = ["backbone"]')
    assert freeze(model, plan) is None
    rates = {group["lr"] for group in optimise.optimiser(model, plan).param_groups}
    assert rates == {plan.recipe.optimiser.learning_rate}
    model.train()
    keep_frozen_norms(model)
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, NORMS)]
    assert {m.training for n, m in norms if n.startswith("model.backbone.")} == {False}
    assert {m.training for n, m in norms if not n.startswith("model.backbone.")} == {True}


def test_everything_frozen_is_found(network: Callable[..., Any]) -> None:
    from seatrial.train.network import freeze

    model, plan = network("rt_detr", 'freeze = ["model"]')
    finding = freeze(model, plan)
    assert finding is not None
    assert finding.code == "everything-frozen"


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule("constant"), [1, 1, 1]),
        (Schedule("constant", warmup_steps=4), [0.25, 1, 1]),
        (Schedule("constant", warmup_epochs=0.8), [1 / 8, 1, 1]),
        (Schedule("linear", final=0.1), [1, 0.55, 0.109]),
        (Schedule("cosine", final=0.0), [1, 0.5, 0.00025]),
        (Schedule("step", step_at=0.5), [1, 0.1, 0.1]),
    ],
)
def test_schedules(optimise: Any, schedule: Schedule, wanted: list[float]) -> None:
    of = optimise.rate_factor(schedule, steps=100, per_epoch=10)
    assert [of(step) for step in (0, 50, 99)] == pytest.approx(wanted, abs=1e-3)


def test_the_average_follows_and_is_gone_on_with(optimise: Any) -> None:
    import torch

    from seatrial.train.weight_average import WeightAverage

    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    average = WeightAverage(layer, Ema(decay=0.9, warmup_steps=10))
    layer.weight.data.fill_(1.0)
    average.update(layer)
    keep = 0.9 * (1 - math.exp(-0.1))
    assert average.network.weight.item() == pytest.approx(1 - keep)
    other = WeightAverage(layer, Ema(decay=0.9, warmup_steps=10))
    other.restore(average.state())
    for one in (average, other):
        one.update(layer)
    assert other.network.weight.item() == average.network.weight.item()
    plain = WeightAverage(layer, Ema(decay=0.0, warmup_steps=0))
    layer.weight.data.fill_(7.0)
    plain.update(layer)
    assert plain.network.weight.item() == 7.0


def test_a_new_set_of_labels_replaces_the_head_and_says_so(
    network: Callable[..., Any], settle_plan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    from seatrial.train import network as networks

    model, plan = network("rt_detr")
    networks.save(model, plan, tmp_path)
    began = msgspec.structs.replace(
        plan.base, path=str(tmp_path), scratch=False, labels=plan.labels, name="colours"
    )
    same = msgspec.structs.replace(plan, base=began, new_head=False)
    assert networks.build(same)[1] == []
    other = msgspec.structs.replace(plan, base=began, labels=("a", "b", "c", "d"))
    changed, fresh = networks.build(other)
    assert changed.config.num_labels == 4
    assert fresh
    assert all("class_embed" in name or "enc_score_head" in name for name in fresh)
    text = networks.new_head_message(other, fresh)
    assert "colours detects 3 classes, the training set has 4 others" in text
    assert f"{len(fresh)} tensors start anew" in text
