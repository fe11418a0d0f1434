"""Pickled weights to safetensors, without running code that the pickle may hold."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from seatrial.errors import InvalidArtifact
from seatrial.models.hubs.selection import PICKLED_INDEX, WEIGHTS
from seatrial.system.extras import require


def to_safetensors(files: list[Path], folder: Path) -> None:
    """Rewrite pickled weights as safetensors and remove the pickles.

    Reading is by ``torch.load(weights_only=True)``, which takes tensors and plain containers and
    refuses anything that would call code.

    Args:
        files: All shards of one model.
        folder: Folder for the safetensors file.

    Raises:
        InvalidArtifact: A file holds more than tensors, or is damaged.
        MissingExtra: torch or safetensors is not installed.
    """
    torch = require("torch", extra="torch", purpose="reading pickled weights")
    safetensors = require("safetensors.torch", extra="hub", purpose="rewriting pickled weights")
    tensors: dict[str, Any] = {}
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the pickle's protocol: it loads or it does not
                loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickles raise errors of any kind
            raise InvalidArtifact(
                f"{file.name} holds more than tensors, or is damaged: {type(error).__name__}",
                hint="it is not read in any other way: convert it to safetensors where it may "
                "run code, and import that",
            ) from error
        if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
            raise InvalidArtifact(f"{file.name} is not a table of named tensors")
        # Tied weights share memory, which safetensors has no notion of.
        tensors |= {name: tensor.clone().contiguous() for name, tensor in loaded.items()}
    safetensors.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    for file in [*files, folder / PICKLED_INDEX]:
        file.unlink(missing_ok=True)
