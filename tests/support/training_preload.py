"""What the server of `training_processes` imports before it forks; never imported by the tests."""

from __future__ import annotations

import gc
import importlib
import importlib.util

import torchvision_operators

if importlib.util.find_spec("transformers") is not None:
    torchvision_operators.provide()
    if importlib.util.find_spec("lightning") is not None:
        importlib.import_module("seatrial.train.transformers_trainer")
        importlib.import_module("seatrial.train.lightning_trainer")

gc.freeze()  # what was imported is not looked through by every process again
