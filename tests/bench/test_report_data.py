from __future__ import annotations

from pathlib import Path

import msgspec

from seatrial.bench.report_data import BenchReport

# A report as `seatrial bench` wrote it before arrival laws had a name.
OLD = Path(__file__).parents[1] / "support" / "bench_report_1.json"


def test_pointers_lead_to_measurements(full_report):
    for n, run in enumerate(full_report.runs):
        for m, point in enumerate(run.points):
            assert full_report.point(f"/runs/{n}/points/{m}") is point


def test_findings_of_a_kind_keep_their_order(full_report):
    kinds = [finding.kind for finding in full_report.findings]
    assert kinds == sorted(kinds, key=["headline", "caveat", "explanation", "advice"].index)
    advice = full_report.of_kind("advice", "headline")
    assert [f.id for f in advice] == [
        f.id for f in full_report.findings if f.kind in ("advice", "headline")
    ]


def test_a_report_of_an_earlier_release_opens(full_report):
    document = msgspec.json.decode(OLD.read_bytes())
    report = msgspec.json.decode(OLD.read_bytes(), type=BenchReport)
    # Nothing that it says is lost or changed; what was not recorded then has its default.
    assert kept(msgspec.json.decode(msgspec.json.encode(report)), document) == document
    assert {run.loop for run in report.runs} == {"closed"}
    assert {point.void for run in report.runs for point in run.points} == {()}
    now = msgspec.json.decode(msgspec.json.encode(full_report))
    assert keys_of(document) <= keys_of(now)


def kept(now, document):
    """Those parts of a document that an older one has."""
    if isinstance(document, dict):
        return {key: kept(now[key], value) for key, value in document.items()}
    if isinstance(document, list):
        assert len(now) == len(document)
        return [kept(new, value) for new, value in zip(now, document, strict=True)]
    return now


def keys_of(document, path=""):
    """All keys, with their places; of lists, those of the first item."""
    if isinstance(document, dict):
        inner = [keys_of(value, f"{path}.{key}") for key, value in document.items()]
        return {path}.union(*inner)
    return keys_of(document[0], f"{path}[]") if isinstance(document, list) and document else {path}
