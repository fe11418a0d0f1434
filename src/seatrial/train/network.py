"""Networks of transformers, ready to be trained: weights, head, canvas, what is frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from seatrial.artifact import Preprocessing
from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact
from seatrial.models.torch_modules import quiet
from seatrial.system.extras import inner_failure
from seatrial.train import diagnosis
from seatrial.train.diagnosis import Symptom
from seatrial.train.freeze import prefixes
from seatrial.train.plan import Plan, canvas, read_facts
from seatrial.train.sampler import seed_everything
from seatrial.train.validation import Normalisation

BACKBONE = "model.backbone."
# Architecture -> what its classification head's weights are called, in part.
HEADS = {
    "detr": ("class_labels_classifier",),
    "rt_detr": ("class_embed", "enc_score_head"),
    "rt_detr_v2": ("class_embed", "enc_score_head"),
    "d_fine": ("class_embed", "enc_score_head"),
}
# Anchors and positions made for one size of the canvas would be used for every other one.
SIZES = ("anchor_image_size", "eval_size")
NORMS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)


def build(plan: Plan) -> tuple[Any, list[str]]:
    """Make the network: of the base's weights as many as fit, the rest drawn from the seed.

    Returns:
        The module, in training mode, and the names of the weights that begin anew.

    Raises:
        InvalidArtifact: The base does not load.
    """
    folder = Path(plan.base.path)
    seed_everything(plan.recipe, -1, 0, torch)
    labels = dict(enumerate(plan.labels))
    try:
        with quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            config.id2label, config.label2id = labels, {v: k for k, v in labels.items()}
            for name in SIZES:
                if hasattr(config, name):
                    setattr(config, name, None)
            kind = transformers.AutoModelForObjectDetection
            if plan.base.scratch:
                return kind.from_config(config).train(), []
            network, report = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        broken = inner_failure(error, package="transformers", extra="train")
        if broken is not None:
            raise broken from error
        raise InvalidArtifact(
            f"{plan.base.name} does not load: {type(error).__name__}: {error}",
            hint="the weights may need another version of transformers",
        ) from error
    fresh = sorted({name for name, *_ in report["mismatched_keys"]} | set(report["missing_keys"]))
    strange = [name for name in fresh if not any(h in name for h in HEADS[plan.base.family])]
    if strange:
        raise InvalidArtifact(
            f"the checkpoint {plan.base.name} lacks weights of its architecture, {strange[0]} "
            "first: they would be random",
            hint="fetch it again, or try another version of transformers",
        )
    return network.train(), fresh


def freeze(network: Any, plan: Plan) -> Symptom | None:
    """Keep parts of a network as they are; batch norms in them keep their statistics too.

    Returns:
        What is wrong with that, if anything.

    Raises:
        InvalidConfig: The recipe names a part that there is not.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen = prefixes(names, plan.recipe.freeze, {"backbone": (BACKBONE,)})
    rows = []
    for name, weight in network.named_parameters():
        if name.startswith(frozen):
            weight.requires_grad_(False)
        rows.append((name, weight.numel(), weight.requires_grad))
    return diagnosis.of_parameters(rows, HEADS[plan.base.family], new_head=plan.new_head)


def rest_frozen(network: Any) -> None:
    """Put the norms whose weights are frozen into evaluation mode; call it after ``train()``."""
    for module in network.modules():
        if isinstance(module, NORMS):
            own = list(module.parameters(recurse=False))
            if own and not any(weight.requires_grad for weight in own):
                module.eval()


def preprocessor(plan: Plan) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of the result: the base's, on the recipe's canvas."""
    file = Path(plan.base.path) / huggingface.PREPROCESSOR
    settings: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    facts = read_facts(Path(plan.base.path))
    if not settings:
        settings = {"do_normalize": facts.mean_std is not None, "do_rescale": True}
    settings.pop("max_size", None)
    settings.pop("pad_size", None)
    size = canvas(plan)
    return {**settings, "size": _size(size), **_pad(size)}


def _size(size: Preprocessing) -> dict[str, int]:
    if size.edges_px is None:
        return {"height": size.size_hw[0], "width": size.size_hw[1]}
    return {"shortest_edge": size.edges_px[0], "longest_edge": size.edges_px[1]}


def _pad(size: Preprocessing) -> dict[str, Any]:
    if size.edges_px is None or size.size_hw == (size.edges_px[1], size.edges_px[1]):
        return {}
    return {"pad_size": {"height": size.size_hw[0], "width": size.size_hw[1]}}


def save(network: Any, plan: Plan, folder: Path) -> None:
    """Write a network as a hub has it."""
    with quiet(transformers):
        network.save_pretrained(folder)
    text = json.dumps(preprocessor(plan), indent=2)
    (folder / huggingface.PREPROCESSOR).write_text(text)


def normalisation(plan: Plan) -> Normalisation:
    """Of the pixel values."""
    facts = read_facts(Path(plan.base.path))
    return Normalisation(facts.scale, facts.mean_std)


def head_in_words(fresh: list[str], plan: Plan) -> str:
    """What a new set of labels does to the network."""
    text = f"new head: {plan.base.name} detects {len(plan.base.labels)} classes, the training set "
    text += f"has {len(plan.labels)} others"
    return f"{text}; {len(fresh)} tensors begin anew, {fresh[0]} first" if fresh else text
