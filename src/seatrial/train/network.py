"""Networks of transformers, ready to be trained: weights, head, canvas, frozen parts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact, InvalidConfig
from seatrial.models.torch_modules import quiet
from seatrial.system.extras import inner_failure, require
from seatrial.train import diagnosis
from seatrial.train.diagnosis import Symptom
from seatrial.train.plan import TrainingPlan, canvas, read_facts
from seatrial.train.sampler import seed_everything
from seatrial.train.validation import Normalisation

BACKBONE = "model.backbone."
# Architecture -> parts of the names of its classification head's weights.
HEADS = {
    "detr": ("class_labels_classifier",),
    "rt_detr": ("class_embed", "enc_score_head"),
    "rt_detr_v2": ("class_embed", "enc_score_head"),
    "d_fine": ("class_embed", "enc_score_head"),
}
# Anchors and positions made for one size of the canvas would be used for every other one.
SIZES = ("anchor_image_size", "eval_size")
NORMS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)


def build(plan: TrainingPlan) -> tuple[Any, list[str]]:
    """Build the network: weights of the base where they fit, random ones elsewhere.

    Returns:
        The module, in training mode, and the names of the weights that start from random values.

    Raises:
        InvalidArtifact: The base does not load.
    """
    transformers = _transformers()
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


def new_head_message(plan: TrainingPlan, fresh: Sequence[str]) -> str:
    """Describe in words how a new set of labels changes the network.

    Args:
        plan: TrainingPlan of the run.
        fresh: Names of the weights that start from random values.
    """
    text = f"new head: {plan.base.name} detects {len(plan.base.labels)} classes, the training set "
    text += f"has {len(plan.labels)} others"
    return f"{text}; {len(fresh)} tensors start anew, {fresh[0]} first" if fresh else text


def freeze(network: Any, plan: TrainingPlan) -> Symptom | None:
    """Exclude the recipe's frozen parts from training.

    Returns:
        What is wrong with that, if anything.

    Raises:
        InvalidConfig: The recipe names a part that the network does not have.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen = frozen_prefixes(names, plan.recipe.freeze, {"backbone": (BACKBONE,)})
    rows = []
    for name, weight in network.named_parameters():
        if name.startswith(frozen):
            weight.requires_grad_(False)
        rows.append((name, weight.numel(), weight.requires_grad))
    return diagnosis.of_parameters(rows, HEADS[plan.base.family], new_head=plan.new_head)


def frozen_prefixes(
    names: Sequence[str], freeze: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Beginnings of the names of frozen weights.

    Args:
        names: Names of all weights, as ``named_parameters`` gives them.
        freeze: Frozen parts: keys of `parts`, or names of modules.
        parts: Part -> beginnings of its weights' names, each with its last dot.

    Raises:
        InvalidConfig: A name is neither a part nor a module; the hint has the nearest.
    """
    found: list[str] = []
    for one in freeze:
        begins = parts.get(one, (f"{one.removesuffix('.')}.",))
        if not any(name.startswith(tuple(begins)) for name in names):
            modules = {name.rsplit(".", depth)[0] for name in names for depth in (1, 2, 3)}
            near = difflib.get_close_matches(one, [*parts, *sorted(modules)], n=1, cutoff=0.3)
            raise InvalidConfig(
                f"freeze names {one!r}, which the model does not have",
                hint=f"did you mean {near[0]!r}?" if near else f"parts: {', '.join(parts)}",
            )
        found += begins
    return tuple(found)


def keep_frozen_norms(network: Any) -> None:
    """Put norms with frozen weights into evaluation mode, so that their statistics stay.

    Call it after every ``train()``.
    """
    for module in network.modules():
        if isinstance(module, NORMS):
            own = list(module.parameters(recurse=False))
            if own and not any(weight.requires_grad for weight in own):
                module.eval()


def normalisation(plan: TrainingPlan) -> Normalisation:
    """Normalisation of the pixel values."""
    facts = read_facts(Path(plan.base.path))
    return Normalisation(facts.scale, facts.mean_std)


def save(network: Any, plan: TrainingPlan, folder: Path) -> None:
    """Write a network and its preprocessing, in the files that a hub has."""
    with quiet(_transformers()):
        network.save_pretrained(folder)
    text = json.dumps(preprocessor(plan), indent=2)
    (folder / huggingface.PREPROCESSOR).write_text(text)


def preprocessor(plan: TrainingPlan) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of the result: the base's, on the recipe's canvas."""
    file = Path(plan.base.path) / huggingface.PREPROCESSOR
    settings: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    facts = read_facts(Path(plan.base.path))
    if not settings:
        settings = {"do_normalize": facts.mean_std is not None, "do_rescale": True}
    settings.pop("max_size", None)
    settings.pop("pad_size", None)
    size = canvas(plan)
    if size.edges_px is None:
        return {**settings, "size": {"height": size.size_hw[0], "width": size.size_hw[1]}}
    shortest, longest = size.edges_px
    settings["size"] = {"shortest_edge": shortest, "longest_edge": longest}
    if size.size_hw != (longest, longest):
        settings["pad_size"] = {"height": size.size_hw[0], "width": size.size_hw[1]}
    return settings


def _transformers() -> Any:
    """The package; imported late, since Ultralytics' trainer takes names from this module too."""
    return require("transformers", extra="train", purpose="finetuning")
