"""A detector from an artifact and a deployment: compiled and warmed up."""

from __future__ import annotations

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine, resolve_layout
from seatrial.system.hardware import usable_cores


def open_detector(
    artifact: Artifact, deployment: Deployment, config: EngineConfig | None = None
) -> Detector:
    """Compile one process's share of a deployment, and warm it up.

    Args:
        artifact: The model.
        deployment: Engine, device, precision and layout.
        config: Configuration of the engine; default: the share of one process, see `layout`.

    Raises:
        SeatrialError: See `seatrial.engines.registry.open_engine`.
    """
    if config is None:
        _, config = layout(deployment)
    detector = Detector(artifact, open_engine(artifact, deployment.engine, config))
    try:
        detector.warm_up()
    except BaseException:
        detector.close()
        raise
    return detector


def layout(deployment: Deployment, cores: int | None = None) -> tuple[int, EngineConfig]:
    """Server processes, and the engine's configuration in each; see `resolve_layout`."""
    return resolve_layout(
        deployment.layout,
        device=deployment.device,
        precision=deployment.precision,
        cores=cores or usable_cores(),
    )
