"""Networks to train: new heads, frozen parts, and what a hub gets of the result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import InvalidArtifact, InvalidConfig
from seatrial.train.plan import TrainingPlan

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def module(transformers: Any) -> Any:
    from seatrial.train import network

    return network


@pytest.fixture(scope="module")
def build(settle_plan: Callable[..., TrainingPlan], module: Any) -> Callable[..., Any]:
    """Builds a small network and its plan."""

    def make(kind: str, recipe: str = "") -> tuple[Any, TrainingPlan]:
        plan = settle_plan("transformers", kind, recipe)
        return module.build(plan)[0], plan

    return make


@pytest.fixture
def saved(build: Callable[..., Any], module: Any, tmp_path: Path) -> TrainingPlan:
    """The plan of a training that starts from saved weights with the same labels."""
    model, plan = build("rt_detr")
    module.save(model, plan, tmp_path)
    base = msgspec.structs.replace(
        plan.base, path=str(tmp_path), scratch=False, labels=plan.labels, name="colours"
    )
    return msgspec.structs.replace(plan, base=base, new_head=False)


def test_frozen_weights_are_not_trained_and_their_norms_stay_in_evaluation(
    build: Callable[..., Any], module: Any
) -> None:
    model, plan = build("rt_detr", 'freeze = ["backbone"]')
    assert module.freeze(model, plan) is None
    for name, weight in model.named_parameters():
        assert weight.requires_grad != name.startswith("model.backbone."), name
    model.train()
    module.keep_frozen_norms(model)
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, module.NORMS)]
    assert {m.training for n, m in norms if n.startswith("model.backbone.")} == {False}
    assert {m.training for n, m in norms if not n.startswith("model.backbone.")} == {True}


def test_everything_frozen_is_a_symptom(build: Callable[..., Any], module: Any) -> None:
    model, plan = build("rt_detr", 'freeze = ["model"]')
    symptom = module.freeze(model, plan)
    assert symptom is not None
    assert symptom.code == "everything-frozen"


NAMES = ["model.backbone.a.weight", "model.backbone.b.weight", "model.decoder.a.weight"]


def test_parts_and_modules_are_frozen_by_name(module: Any) -> None:
    parts = {"backbone": ("model.backbone.",)}
    assert module.frozen_prefixes(NAMES, ["backbone"], parts) == ("model.backbone.",)
    assert module.frozen_prefixes(NAMES, ["model.decoder"], parts) == ("model.decoder.",)
    assert module.frozen_prefixes(NAMES, ["model.decoder."], parts) == ("model.decoder.",)
    assert module.frozen_prefixes(NAMES, [], parts) == ()


@pytest.mark.parametrize("name", ["bakbone", "model.backbon"])
def test_a_part_that_the_model_lacks_is_named_with_the_nearest(module: Any, name: str) -> None:
    with pytest.raises(InvalidConfig, match=f"'{name}'") as caught:
        module.frozen_prefixes(NAMES, [name], {"backbone": ("model.backbone.",)})
    assert caught.value.hint in ("did you mean 'backbone'?", "did you mean 'model.backbone'?")


def test_saved_weights_are_all_taken(saved: TrainingPlan, module: Any, torch: Any) -> None:
    network, fresh = module.build(saved)
    assert fresh == []
    assert network.training
    again, _ = module.build(saved)
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True)
    )


def test_a_new_set_of_labels_replaces_the_head_and_the_message_says_so(
    saved: TrainingPlan, module: Any
) -> None:
    other = msgspec.structs.replace(saved, labels=("a", "b", "c", "d"))
    changed, fresh = module.build(other)
    assert changed.config.num_labels == 4
    assert fresh
    assert all("class_embed" in name or "enc_score_head" in name for name in fresh)
    text = module.new_head_message(other, fresh)
    assert "colours detects 3 classes, the training set has 4 others" in text
    assert f"{len(fresh)} tensors start anew, {fresh[0]} first" in text
    assert module.new_head_message(other, []).endswith("has 4 others")


def test_random_weights_are_those_of_the_seed(
    settle_plan: Callable[..., TrainingPlan], module: Any, torch: Any
) -> None:
    first, again, other = (
        module.build(settle_plan("transformers", "rt_detr", text))[0]
        for text in ("seed = 1", "seed = 1", "seed = 2")
    )
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = list(zip(first.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_that_lacks_weights_beside_its_head_is_refused(
    saved: TrainingPlan, module: Any
) -> None:
    from safetensors.torch import load_file, save_file

    file = Path(saved.base.path) / "model.safetensors"
    weights = load_file(file)
    dropped = next(name for name in weights if "backbone" in name and name.endswith("weight"))
    save_file({k: v for k, v in weights.items() if k != dropped}, file, metadata={"format": "pt"})
    with pytest.raises(InvalidArtifact, match="lacks weights of its architecture"):
        module.build(saved)


def test_a_base_that_is_not_there_is_refused(saved: TrainingPlan, module: Any) -> None:
    shutil.rmtree(saved.base.path)
    with pytest.raises(InvalidArtifact, match="colours does not load"):
        module.build(saved)


def test_the_preprocessor_is_the_bases_on_the_recipes_canvas(
    settle_plan: Callable[..., TrainingPlan], module: Any
) -> None:
    plain = module.preprocessor(settle_plan("transformers", "rt_detr", "image_size = [64, 128]"))
    assert plain["size"] == {"height": 64, "width": 128}
    assert plain["do_normalize"] is False
    assert "pad_size" not in plain
    edges = module.preprocessor(settle_plan("transformers", "detr", "image_size = 48"))
    assert edges["size"] == {"shortest_edge": 48, "longest_edge": 80}
    assert edges["do_normalize"] is True


def test_a_saved_network_has_its_preprocessor_beside_it(saved: TrainingPlan) -> None:
    folder = Path(saved.base.path)
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"]["height"] == 96
    assert (folder / "config.json").is_file()
