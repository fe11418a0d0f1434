"""A detector that is opened in this process, as the target of a load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.load.in_process import InProcessTarget


@contextlib.contextmanager
def opened_in_process(deployment: Deployment, artifact: Artifact) -> Iterator[InProcessTarget]:
    """A deployment's detector in this process, for as long as the block lasts.

    It is opened as one server process opens it, with the lanes, the thresholds and the limit of
    pixels of the deployment; there is no queue with refusals and no deadline.

    Args:
        deployment: Engine, layout, batching, thresholds.
        artifact: The model.

    Raises:
        InvalidConfig: The deployment has several server processes.
        SeatrialError: The engine does not open.
    """
    from seatrial.detect.opening import layout, open_detector
    from seatrial.load.in_process import Found, InProcessTarget

    if (deployment.layout.workers or 1) > 1:
        raise InvalidConfig(
            f"{deployment.layout.workers} server processes cannot be in this one",
            hint="leave --workers out, or measure a service: without --in-process",
        )
    deployment = deployment.changed({"workers": 1})
    _, config = layout(deployment)
    thresholds = deployment.detection.of(artifact.manifest)
    most = deployment.limits.image_pixels
    with open_detector(artifact, deployment) as detector:

        def detect(image: bytes) -> Found:
            found = detector.detect(image, thresholds, max_pixels=most)
            total_ms = sum(found.stages_ms.values())
            return Found(len(found.detections), {**found.stages_ms, "total": total_ms})

        manifest, engine = artifact.manifest, detector.engine
        yield InProcessTarget(
            detect,
            # One more than lanes decodes the next image meanwhile, as a service's threads do.
            threads=config.instances + 1,
            model={
                "name": manifest.name,
                "digest": artifact.digest,
                "family": manifest.family,
                "labels": manifest.labels,
                "engine": engine.name,
                "device": engine.device,
                "precision": engine.precision,
                "layout": {
                    "workers": 1,
                    "instances": config.instances,
                    "threads": config.threads,
                    "wide_threads": config.wide_threads,
                },
            },
        )
