"""Counts of two artifacts side by side."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from seatrial.serve.variants import VariantMetrics


def test_requests_count_while_there_is_a_canary_and_begin_anew_with_the_next() -> None:
    registry = CollectorRegistry()
    variants = VariantMetrics([0.1, 1.0], registry)

    def counted(variant: str, code: str) -> float | None:
        labels = {"variant": variant, "code": code}
        return registry.get_sample_value("seatrial_variant_requests_total", labels)

    variants.count("live", 200, 0.5)
    assert counted("live", "200") is None
    variants.set_share(0.1)
    variants.count("live", 200, 0.5)
    variants.count("canary", 200, 0.25)
    variants.count("canary", 500, 0.25)
    variants.count("canary", 422, 0.25)
    assert (counted("live", "200"), counted("canary", "200"), counted("canary", "500")) == (1, 1, 1)
    assert variants.told() == {
        "requests": {
            "live_answered": 1, "live_failed": 0, "canary_answered": 1, "canary_failed": 2
        },
        "seconds": {"live": 0.5, "canary": 0.25},
    }  # fmt: skip
    assert registry.get_sample_value("seatrial_canary_share") == 0.1
    variants.set_share(0)
    variants.count("live", 200, 0.5)
    assert counted("live", "200") == 1
    variants.count("canary", 200, 0.5)  # it ended on the canary that has left
    assert counted("canary", "200") == 2
    variants.set_share(0.5)
    assert variants.told()["requests"]["canary_answered"] == 0
    for _ in range(7):
        variants.count("live", 503, 0.0)
    assert (counted("live", "503"), variants.told()["requests"]["live_failed"]) == (7, 7)
