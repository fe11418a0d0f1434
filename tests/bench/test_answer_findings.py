from __future__ import annotations

import msgspec

from seatrial.bench.findings import interpret


def findings(report):
    return {one.id: one for one in interpret(report)}


def test_connections_that_were_closed_are_told(make_report, point, assert_traceable):
    def report(*counts):
        points = [msgspec.structs.replace(point(n + 1), retried=n) for n in counts]
        return make_report(scaling=points)

    assert "closed-connections" not in findings(report(0, 0))
    found = findings(report(0, 3, 2))["closed-connections"]
    assert found.severity == "warn"
    assert "3 of 700 requests of one measurement were sent again" in found.text
    assert_traceable(report(0, 3, 2))


def test_answers_with_a_good_status_that_cannot_be_read_are_told(
    make_report, point, assert_traceable
):
    made = make_report(single=[point(1, failed=7, error="unreadable")])
    found = findings(made)["unreadable-answers"]
    assert found.severity == "bad"
    assert found.text.startswith("7 answers of one measurement had a good status and no detections")
    assert_traceable(made)
    assert "unreadable-answers" not in findings(make_report(single=[point(1, failed=7)]))
