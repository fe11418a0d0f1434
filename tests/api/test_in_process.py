from __future__ import annotations

import pytest

from seatrial.api.in_process import opened_in_process
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.errors import InputTooLarge, InvalidConfig, UnsupportedImage


def deployment(artifact, **changes):
    return Deployment(model=str(artifact.path), **changes)


def test_it_detects_as_a_service_does(tiny_artifact, photo):
    with opened_in_process(
        deployment(tiny_artifact, layout=CoreLayout(instances=2, threads=1)), tiny_artifact
    ) as target:
        found = target.detect(photo)
        assert found.detections is not None
        assert {"decode", "infer", "total"} <= {*found.timing_ms}
        stages_ms = sum(value for name, value in found.timing_ms.items() if name != "total")
        assert found.timing_ms["total"] == pytest.approx(stages_ms)
        with pytest.raises(UnsupportedImage):
            target.detect(b"no image")
    assert target.threads == 3
    described = target.model
    assert (described["name"], described["engine"]) == (tiny_artifact.manifest.name, "openvino")
    assert (described["layout"]["workers"], described["layout"]["instances"]) == (1, 2)
    assert described["labels"] == tiny_artifact.manifest.labels


def test_limits_of_the_deployment_hold(tiny_artifact, photo):
    small = deployment(tiny_artifact, engine="null", limits=Limits(image_pixels=4))
    with opened_in_process(small, tiny_artifact) as target, pytest.raises(InputTooLarge):
        target.detect(photo)


def test_several_server_processes_cannot_be_in_one(tiny_artifact):
    several = deployment(tiny_artifact, layout=CoreLayout(workers=2))
    with (
        pytest.raises(InvalidConfig, match="2 server processes"),
        opened_in_process(several, tiny_artifact),
    ):
        pass
