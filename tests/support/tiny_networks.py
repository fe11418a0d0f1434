"""Small seeded networks of the real transformers architectures, as a hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LABELS = ("red", "green", "blue")
SIZE = {"height": 128, "width": 160}
EDGES = {"shortest_edge": 96, "longest_edge": 160}


def build_network(library: Any, kind: str, seed: int = 0) -> Any:
    """A small network; weights drawn with a seed, wide enough apart not to tie.

    Args:
        library: ``transformers``.
        kind: detr, rt_detr, rt_detr_v2 or d_fine.
        seed: Of the weights.
    """
    import torch

    model = _model(library, kind)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=chance)
            if weight.ndim >= 2:
                weight.copy_(noise * 1.2 / weight[0].numel() ** 0.5)
            else:
                weight.copy_(noise * 0.1 + (0 if name.endswith("bias") else 1))
    return model.eval()


def save_snapshot(model: Any, folder: Path, kind: str) -> None:
    """Write the files that a hub has of a model."""
    model.save_pretrained(folder)
    normalised = {"do_normalize": True, "size": EDGES}
    plain = {"do_normalize": False, "size": SIZE, "resample": 2}
    settings = normalised if kind == "detr" else plain
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _model(library: Any, kind: str) -> Any:
    labels = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: number for number, name in enumerate(LABELS)},
    }
    residual = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
    if kind == "detr":
        backbone = library.ResNetConfig(**residual, layer_type="basic", out_features=["stage4"])
        return library.DetrForObjectDetection(
            library.DetrConfig(
                backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
                decoder_ffn_dim=64, num_queries=20, **labels,
            )
        )  # fmt: skip
    three = ["stage2", "stage3", "stage4"]
    common = {
        "encoder_hidden_dim": 32, "feat_strides": [8, 16, 32], "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2, "d_model": 32, "num_queries": 20, "num_denoising": 0,
        "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 64, "decoder_layers": 2,
        "decoder_attention_heads": 2, **labels,
    }  # fmt: skip
    if kind == "d_fine":
        backbone = library.HGNetV2Config(
            hidden_sizes=[16, 32, 48, 64], stem_channels=[3, 8, 8],
            stage_in_channels=[8, 16, 32, 48], stage_mid_channels=[8, 8, 16, 16],
            stage_out_channels=[16, 32, 48, 64], stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[2, 2, 2, 2], out_features=three,
        )  # fmt: skip
        return library.DFineForObjectDetection(
            library.DFineConfig(
                backbone_config=backbone, encoder_in_channels=[32, 48, 64],
                decoder_n_points=[2, 2, 2], **common,
            )
        )  # fmt: skip
    backbone = library.RTDetrResNetConfig(**residual, layer_type="basic", out_features=three)
    second = kind == "rt_detr_v2"
    settings = library.RTDetrV2Config if second else library.RTDetrConfig
    build = library.RTDetrV2ForObjectDetection if second else library.RTDetrForObjectDetection
    return build(
        settings(
            backbone_config=backbone, encoder_in_channels=[24, 32, 48], decoder_n_points=2,
            **common,
        )
    )  # fmt: skip
