"""The JSON of ``GET /model``: its form, which is also that of the interface's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from seatrial.deployment import Batching, Limits, Thresholds


class DescribedLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Division of the cores.

    Attributes:
        workers: Number of server processes.
        instances: Number of narrow lanes in each process.
        threads: Number of threads of each narrow lane.
        wide_threads: Number of threads of the wide lane; 0 where there is none.
        cores: Number of cores that may be used.
    """

    workers: int
    instances: int
    threads: int
    wide_threads: int
    cores: int


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that is served, and how.

    Attributes:
        name: Name of the artifact.
        digest: Digest of the artifact.
        family: Name of the family, which says how boxes are read from the outputs.
        variant: Variant of the family.
        licence: Licence of the weights.
        size_hw: Height and width of the model's canvas, pixels.
        labels: Class names, by class number.
        engine: Engine that computes.
        device: Device that it really computes on.
        precision: Numeric type that it really computes in.
        layout: Division of the cores.
        batching: Images that a lane is given at once.
        detection: Thresholds where a request names none.
        limits: Limits above which a request is refused.
        properties: Facts that the engine states about itself.
        versions: Package -> version.
        decode_memory_bytes: Memory that images may take while they are decoded.
    """

    name: str
    digest: str
    family: str
    variant: str
    licence: str
    size_hw: tuple[int, int]
    labels: list[str]
    engine: str
    device: str
    precision: str
    layout: DescribedLayout
    batching: Batching
    detection: Thresholds
    limits: Limits
    properties: dict[str, Any]
    versions: dict[str, str]
    decode_memory_bytes: int


def checked(description: Mapping[str, Any]) -> dict[str, Any]:
    """The same description.

    Raises:
        msgspec.ValidationError: It has not the form that is documented.
    """
    plain: dict[str, Any] = msgspec.to_builtins(description)
    msgspec.convert(plain, Description)
    return plain
