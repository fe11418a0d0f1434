"""A detector from an artifact and a deployment: compiled and warmed up."""

from __future__ import annotations

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import check_takes_batches, open_engine, resolve_layout
from seatrial.engines.sized_lane import batch_sizes
from seatrial.errors import InvalidConfig
from seatrial.system.hardware import usable_cores

AUTO = 8  # most images of a batch that `auto` tries
# An image in a batch is answered when the last one is: it has to take so much less time than alone.
WORTH = 0.9


def open_detector(
    artifact: Artifact, deployment: Deployment, config: EngineConfig | None = None
) -> Detector:
    """Compile one process's share of a deployment, and warm it up.

    Args:
        artifact: The model.
        deployment: Engine, device, precision, layout and batching.
        config: Configuration of the engine; default: the share of one process, see `layout`.

    Raises:
        InvalidConfig: The graph does not take as many images at once as are asked for.
        SeatrialError: See `seatrial.engines.registry.open_engine`.
    """
    if config is None:
        _, config = layout(deployment)
    if deployment.batching.max_batch != "auto" or not _takes_batches(artifact):
        return _open(artifact, deployment, config)
    detector = _open(artifact, deployment, msgspec.structs.replace(config, max_batch=AUTO))
    best = best_batch({size: detector.image_s(size) for size in batch_sizes(AUTO)})
    if best == AUTO:
        return detector
    detector.close()
    return _open(artifact, deployment, msgspec.structs.replace(config, max_batch=best))


def best_batch(image_s: dict[int, float]) -> int:
    """The batch size that is worth its wait.

    Args:
        image_s: Batch size -> seconds for each of its images, with one for 1.
    """
    best = min(image_s, key=lambda size: image_s[size])
    return best if image_s[best] < WORTH * image_s[1] else 1


def _takes_batches(artifact: Artifact) -> bool:
    try:
        check_takes_batches(artifact)
    except InvalidConfig:
        return False
    return True


def _open(artifact: Artifact, deployment: Deployment, config: EngineConfig) -> Detector:
    engine = open_engine(artifact, deployment.engine, config)
    delay_s = 1e-3 * deployment.batching.max_delay_ms
    detector = Detector(artifact, engine, config.max_batch, delay_s)
    try:
        detector.warm_up()
    except BaseException:
        detector.close()
        raise
    return detector


def layout(deployment: Deployment, cores: int | None = None) -> tuple[int, EngineConfig]:
    """Server processes, and the engine's configuration in each; see `resolve_layout`.

    Its largest batch is 1 where the deployment says ``auto``: only `open_detector` measures.
    """
    workers, config = resolve_layout(
        deployment.layout,
        device=deployment.device,
        precision=deployment.precision,
        cores=cores or usable_cores(),
    )
    most = deployment.batching.max_batch
    return workers, msgspec.structs.replace(config, max_batch=1 if most == "auto" else most)
