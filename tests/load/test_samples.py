from __future__ import annotations

import pytest

from seatrial.load.samples import Sample


@pytest.mark.parametrize(("due_ns", "latency_ms"), [(None, 30.0), (5_000_000, 35.0)])
def test_latency_counts_from_the_due_time_where_there_is_one(due_ns, latency_ms):
    sample = Sample(10_000_000, 40_000_000, 200, due_ns=due_ns)
    assert sample.latency_ms == latency_ms
    assert sample.service_ms == 30.0
