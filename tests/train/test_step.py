"""Groups of the optimiser, learning rates, and the loss of a step that is taken in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seatrial.train.plan import TrainingPlan
from seatrial.train.recipe import Schedule

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def step(transformers: Any) -> Any:
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
    kind: str, network: Callable[..., Any], step: Any
) -> None:
    model, plan = network(kind)
    groups = step.optimiser(model, plan).param_groups
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


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule("constant"), [1, 1, 1]),
        (Schedule("constant", warmup_steps=4), [0.25, 1, 1]),
        (Schedule("constant", warmup_epochs=0.8), [1 / 8, 1, 1]),
        (Schedule("linear", final=0.1), [1, 0.55, 0.109]),
        (Schedule("cosine", final=0.0), [1, 0.5, 0.00025]),
        (Schedule("cosine", final=0.2), [1, 0.6, 0.2002]),
        (Schedule("cosine", final=0.2, warmup_steps=20), [0.05, 0.7531, 0.2003]),
        (Schedule("step", step_at=0.5), [1, 0.1, 0.1]),
        (Schedule("step", step_at=0.51), [1, 1, 0.1]),
        (Schedule("linear", final=0.1, warmup_steps=10), [0.1, 1 - 0.9 * 4 / 9, 0.11]),
    ],
)
def test_schedules(step: Any, schedule: Schedule, wanted: list[float]) -> None:
    of = step.rate_factor(schedule, steps=100, per_epoch=10)
    assert [of(number) for number in (0, 50, 99)] == pytest.approx(wanted, abs=1e-3)


def test_the_longer_warm_up_counts(step: Any) -> None:
    of = step.rate_factor(
        Schedule("constant", warmup_steps=5, warmup_epochs=2.0), steps=100, per_epoch=10
    )
    assert [of(number) for number in (0, 9, 19, 20)] == pytest.approx([0.05, 0.5, 1.0, 1.0])


@pytest.mark.parametrize(("kind", "name"), [("sgd", "SGD"), ("adamw", "AdamW")])
def test_the_optimiser_is_the_recipes(
    network: Callable[..., Any], step: Any, kind: str, name: str
) -> None:
    text = f'[optimiser]\nkind = "{kind}"\nmomentum = 0.8'
    chosen = step.optimiser(*network("rt_detr", text))
    assert type(chosen).__name__ == name
    group = chosen.param_groups[0]
    momentum = group["momentum"] if kind == "sgd" else group["betas"][0]
    assert momentum == 0.8
    assert group.get("nesterov", True)


def test_frozen_weights_are_in_no_group(network: Callable[..., Any], step: Any) -> None:
    from seatrial.train.network import freeze

    model, plan = network("rt_detr", 'freeze = ["backbone"]')
    freeze(model, plan)
    rates = {group["lr"] for group in step.optimiser(model, plan).param_groups}
    assert rates == {plan.recipe.optimiser.learning_rate}


def batch_of(torch: Any, objects: list[int]) -> dict[str, Any]:
    """A batch of images with so many objects each."""
    draw = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.rand(len(objects), 3, 96, 96, generator=draw),
        "labels": [
            {
                "class_labels": torch.randint(3, (count,), generator=draw),
                "boxes": torch.rand(count, 4, generator=draw) * 0.3 + 0.2,
            }
            for count in objects
        ],
        "objects": sum(objects),
    }


def part_of(batch: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    return {
        "pixel_values": batch["pixel_values"][first:last],
        "labels": batch["labels"][first:last],
        "objects": batch["objects"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["detr", "rt_detr", "d_fine"])
def test_parts_of_a_step_have_the_loss_of_the_whole_step(
    torch: Any, network: Callable[..., Any], step: Any, kind: str
) -> None:
    """Parts with 0, 4 and 8 objects; norms in evaluation mode, which see no batch."""
    whole = batch_of(torch, [0, 0, 3, 1, 5, 3])
    model, plan = network(kind, "batch = 6")
    expected, names = step.weighed_loss(model.eval(), whole, plan)
    plan = network(kind, "batch = 6\naccumulate = 3")[1]
    parts = [
        step.weighed_loss(model, part_of(whole, first, first + 2), plan) for first in (0, 2, 4)
    ]
    mean = sum(float(loss.detach()) for loss, _ in parts) / 3
    assert mean == pytest.approx(float(expected.detach()), rel=1e-4)
    assert {"loss_bbox", "loss_giou"} <= set(names)
    for name in ("loss_bbox", "loss_giou"):
        mean = sum(float(found[name]) for _, found in parts) / 3
        assert mean == pytest.approx(float(names[name]), rel=1e-4)


@pytest.mark.slow
def test_the_gradient_of_parts_is_that_of_the_whole_step(
    torch: Any, network: Callable[..., Any], step: Any
) -> None:
    whole = batch_of(torch, [1, 0, 3, 4])
    model, plan = network("rt_detr", "batch = 4")
    model.eval()
    step.weighed_loss(model, whole, plan)[0].backward()
    expected = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    plan = network("rt_detr", "batch = 4\naccumulate = 2")[1]
    for first in (0, 2):
        (step.weighed_loss(model, part_of(whole, first, first + 2), plan)[0] / 2).backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-3, atol=1e-5)
