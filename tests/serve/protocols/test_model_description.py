"""Metadata and configuration of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

import pytest

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_the_configuration_fits_the_metadata(running: Running) -> None:
    for name in ("tiny", "tiny.graph"):
        told = running.client.get(f"/v2/models/{name}").json()
        config = running.client.get(f"/v2/models/{name}/config").json()
        for kind in ("input", "output"):
            assert [(one["name"], one["dims"]) for one in config[kind]] == [
                (one["name"], one["shape"]) for one in told[f"{kind}s"]
            ]
        assert config["max_batch_size"] == 0
        assert config["instance_group"][0]["count"] == 1
