"""The models that a service has in the Open Inference Protocol, each with one signature.

- The detector, by the name of the artifact that the service began with: encoded images in, boxes
  out.
- Its graph, by that name and `GRAPH_SUFFIX`: the graph's own tensors in and out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from seatrial.engines.base import of_batch
from seatrial.errors import NotServed, did_you_mean
from seatrial.serve.protocols.signatures import FOUND, GRAPH_SUFFIX, IMAGE, VERSION
from seatrial.serve.protocols.tensors import DTYPES, Signature
from seatrial.serve.service import Service
from seatrial.serve.statistics import DETECTOR, GRAPH


class ProtocolModel(NamedTuple):
    """One of the two models.

    Attributes:
        name: As requests name it.
        kind: `DETECTOR` or `GRAPH`, its label in the metrics.
        platform: What runs it.
        inputs: What it takes.
        outputs: What it gives, in this order.
    """

    name: str
    kind: str
    platform: str
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]

    @property
    def data_bytes(self) -> float:
        """Length of its inputs as binary data; infinite where they may have any."""
        return sum(
            math.inf
            if -1 in one.shape or one.datatype not in DTYPES
            else math.prod(one.shape) * np.dtype(DTYPES[one.datatype]).itemsize
            for one in self.inputs
        )


def models(service: Service) -> tuple[ProtocolModel, ProtocolModel]:
    """The models of a service, the detector first."""
    name, engine = service.name, service.dispatcher.detector.engine
    platform = f"seatrial_{engine.name}"
    inputs = tuple(Signature.of(spec, of_batch(spec.shape)) for spec in engine.inputs)
    outputs = tuple(Signature.of(spec, of_batch(spec.shape)) for spec in engine.outputs)
    return (
        ProtocolModel(name, DETECTOR, platform, (IMAGE,), FOUND),
        ProtocolModel(name + GRAPH_SUFFIX, GRAPH, platform, inputs, outputs),
    )


def find_model(service: Service, name: str, version: str = "") -> ProtocolModel:
    """The model of a name, in a version where one is named.

    Raises:
        NotServed: There is none.
    """
    have = {model.name: model for model in models(service)}
    if name not in have:
        known = f"the service has: {', '.join(have)}"
        raise NotServed(
            f"there is no model {name[:100]!r}",
            hint=did_you_mean(name[:100], have, otherwise=known),
        )
    if version not in ("", VERSION):
        raise NotServed(
            f"model {name!r} has no version {version[:20]!r}", hint=f"it has: {VERSION}"
        )
    return have[name]
