from __future__ import annotations

import math
import re
from dataclasses import replace

import msgspec
import pytest

from bench_reports import build_open_point, build_point
from seatrial.bench.compare_report import Contender
from seatrial.bench.compare_reports import ONE_RUN, compare_reports
from seatrial.bench.report_data import Run
from seatrial.bench.run import IN_PROCESS
from seatrial.config import encode_json
from seatrial.errors import InvalidConfig
from seatrial.load.rate_search import RateSearch

PAIR = [Contender("A", "a.json", "report"), Contender("B", "b.json", "report")]


@pytest.fixture
def against(make_report, tmp_path):
    """Compares two reports, of lone requests and of four sessions; changes are those of B's."""

    def run(
        base_ms, other_ms, *, figure=None, sessions=None, margin=0.05, force=False, scaling=True,
        **changes,
    ):  # fmt: skip
        paths = []
        for name, latency_ms in (("a", base_ms), ("b", other_ms)):
            four = [build_point(4, 4 * latency_ms)] if scaling else []
            report = make_report(single=[build_point(1, latency_ms)], scaling=four)
            if name == "b":
                report = msgspec.structs.replace(report, **changes)
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_bytes(encode_json(report))
        return compare_reports(
            PAIR, paths, figure=figure, sessions=sessions, margin=margin, force=force, command="it"
        )

    return run


def test_lone_requests_decide_and_every_figure_with_an_interval_is_compared(against):
    report = against(40.0, 44.0)
    assert (report.load, report.figure) == ("single-stream, 1 session", "p50")
    assert [one.figure for one in report.contrasts][:2] == ["p50", "p90"]
    p50 = report.deciding[0]
    assert (p50.base, p50.value) == (pytest.approx(40.0, rel=0.01), pytest.approx(44.0, rel=0.01))
    assert p50.ratio.ratio == pytest.approx(1.1, rel=0.001)
    assert p50.answer == "slower"
    assert report.statements[0].startswith(
        "B (b.json) is slower than A (a.json) in these two runs: latency p50 +10.0%"
    )
    assert ONE_RUN in report.caveats[-1]
    assert report.caveats[-1].endswith("They were made 2026-11-20 10:00 UTC, 2026-11-20 10:00 UTC.")
    assert (report.blocks, report.round_s, report.options) == ((), None, None)
    assert report.contenders[0].model["name"] == "tiny"


def test_the_interval_is_made_of_those_of_both(against, make_report):
    point = build_point(1, 40.0).latency.percentiles["p50"]
    found = against(40.0, 40.0).deciding[0].ratio
    assert math.log(found.low) == pytest.approx(
        -math.hypot(
            math.log(point.value_ms / point.low_ms), math.log(point.high_ms / point.value_ms)
        )
    )
    assert (found.level, found.rounds) == (0.95, 1)


def test_the_throughput_of_several_sessions_decides(against):
    report = against(40.0, 30.0, sessions=4)
    assert (report.load, report.figure) == ("scaling, 4 sessions", "throughput")
    assert report.deciding[0].answer == "faster"
    assert report.deciding[0].ratio.ratio == pytest.approx(4 / 3, rel=0.01)
    assert against(40.0, 30.0, sessions=4, figure="p90").figure == "p90"


def test_what_is_undecided_is_not_promised_to_be_decided_by_more_of_the_same(against):
    (words,) = against(40.0, 40.0, margin=1e-4).statements
    assert words.startswith("Undecided whether B (b.json)")
    assert words.endswith("compare the services themselves, in turn.")


def test_reports_of_different_machines_or_images_are_refused_unless_forced(against, make_report):
    report = make_report(single=[build_point(1, 40.0)])
    cpu = msgspec.structs.replace(report.environment.cpu, model="Xeon", cores=4)
    machine = msgspec.structs.replace(report.environment, cpu=cpu)
    images = msgspec.structs.replace(report.images, digest="f" * 64)
    with pytest.raises(
        InvalidConfig, match=r"machine \(AMD EPYC and Xeon\); usable cores \(2 and 4"
    ):
        against(40.0, 44.0, environment=machine)
    with pytest.raises(InvalidConfig, match="images") as failed:
        against(40.0, 44.0, images=images)
    assert "--force" in failed.value.hint
    forced = against(40.0, 44.0, images=images, force=True)
    assert forced.caveats[0].startswith("Compared in spite of a difference (--force): images (")


def test_reports_without_a_common_load_or_figure_are_refused(against):
    with pytest.raises(InvalidConfig, match="no such load in common: those of single-stream"):
        against(40.0, 44.0, sessions=7)
    few = build_point(1, 40.0, count=100)
    with pytest.raises(InvalidConfig, match="no interval of p99 at single-stream, 1 session"):
        against(40.0, 44.0, figure="p99", runs=(Run("single-stream", (few,)),), scaling=False)


def test_a_void_window_is_not_compared(make_report, tmp_path):
    late, good = build_open_point(10.0, late_ms=40.0), build_open_point(20.0)
    assert late.void
    for name, points in (("a", [late, good]), ("b", [late, good]), ("c", [late])):
        file = tmp_path / f"{name}.json"
        file.write_bytes(encode_json(make_report(server=points)))

    def compare(*names):
        paths = [tmp_path / f"{name}.json" for name in names]
        return compare_reports(PAIR, paths, figure=None, sessions=None, margin=0.05)

    assert "20" in compare("a", "b").load
    with pytest.raises(InvalidConfig, match=r"server, .*10.*, is void in the report of 2026"):
        compare("a", "c")


@pytest.fixture
def compare_files(make_report, tmp_path):
    """Compares two reports, each made of the arguments for `make_report` and of changes."""

    def run(one, other, *, force=False, law=None, figure=None):
        paths = []
        for name, (made, changes) in (("a", one), ("b", other)):
            report = msgspec.structs.replace(make_report(**made), **changes)
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_bytes(encode_json(report))
        return compare_reports(
            PAIR, paths, figure=figure, sessions=None, law=law, margin=0.05, force=force
        )

    return run


def test_a_service_that_fails_is_not_compared(compare_files):
    whole = {"server": [build_open_point(20.0)]}
    broken = {"server": [build_open_point(20.0, failed=200)]}
    with pytest.raises(InvalidConfig, match=r"B failed 200 of 800 requests at server, .*: a serv"):
        compare_files((whole, {}), (broken, {}))
    forced = compare_files((whole, {}), (broken, {}), force=True)
    assert any("B failed 200 of 800" in one for one in forced.caveats)
    few = {"server": [build_open_point(20.0, failed=8)]}
    assert any("B failed 8 of 800" in one for one in compare_files((whole, {}), (few, {})).caveats)
    assert (
        compare_files((whole, {}), (whole, {})).caveats
        == compare_files((whole, {}), (whole, {}), force=True).caveats
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"latency_limit_ms": 45.0}, "--latency-limit-ms (none and 45)"),
        ({"client_processes": 2}, "--client-processes (1 and 2)"),
        ({"timeout_s": 5.0}, "--timeout-s (30 and 5)"),
    ],
)
def test_options_that_change_the_figures_are_a_difference(
    compare_files, make_report, options, words
):
    made = {"single": [build_point(1, 40.0)]}
    report = make_report(**made)
    changes = {"options": replace(report.options, **options)}
    with pytest.raises(InvalidConfig, match=re.escape(words)):
        compare_files((made, {}), (made, changes))
    with pytest.raises(InvalidConfig, match="place"):
        compare_files((made, {}), (made, {"target": IN_PROCESS}))


def test_pauses_are_another_load(compare_files):
    plain = build_point(4, 40.0)
    paused = msgspec.structs.replace(plain, pause="pauses of 0.1 s")
    assert paused.load == "4 sessions, pauses of 0.1 s"
    with pytest.raises(InvalidConfig, match="no such load in common"):
        compare_files(({"scaling": [plain]}, {}), ({"scaling": [paused]}, {}))


def test_the_load_can_be_chosen_by_its_law(compare_files):
    made = {"server": [build_open_point(10.0), build_open_point(20.0)]}
    law = build_open_point(20.0).law
    assert compare_files((made, {}), (made, {})).load.endswith(build_open_point(10.0).law)
    assert compare_files((made, {}), (made, {}), law=law).load.endswith(law)


def test_the_highest_rates_of_two_searches_are_compared(compare_files):
    made, points = {"server": [build_open_point(10.0)]}, (build_open_point(10.0),)

    def searched(rate_hz, low_hz, *, limit_ms=100.0, bounded=True):
        found = RateSearch(rate_hz, low_hz, 1.05 * rate_hz, "found", 30.0, (), bounded)
        return made, {"runs": (Run("server", points, "open", found, limit_ms, "p99"),)}

    report = compare_files(searched(200.0, 190.0), searched(100.0, 95.0))
    assert (report.figure, report.load) == ("highest rate", "server, poisson, p99 within 100 ms")
    (contrast,) = report.deciding
    assert (contrast.base, contrast.value, contrast.answer) == (200.0, 100.0, "slower")
    assert "B (b.json) is slower" in report.statements[0]
    assert "highest rate -50.0%" in report.statements[0]
    for other in (searched(100.0, 0.0), searched(100.0, 95.0, bounded=False)):
        with pytest.raises(InvalidConfig, match="no interval of the highest rate"):
            compare_files(searched(200.0, 190.0), other)
    with pytest.raises(InvalidConfig, match="no such load in common"):
        compare_files(searched(200.0, 190.0), searched(100.0, 95.0, limit_ms=50.0))


def test_trials_of_a_search_are_not_compared(compare_files):
    made = {"server": [build_open_point(10.0)]}
    found = RateSearch(10.0, 9.0, 11.0, "found", 30.0, ())
    run = Run("server", (build_open_point(10.0),), "open", found, 100.0, "p99")
    with pytest.raises(InvalidConfig, match=r"trials of a search .* are not compared"):
        compare_files((made, {"runs": (run,)}), (made, {"runs": (run,)}), figure="p50")


def test_an_older_report_without_a_percentile_is_compared(compare_files):
    point = build_point(1, 40.0)
    latency = msgspec.structs.replace(
        point.latency,
        percentiles={n: one for n, one in point.latency.percentiles.items() if n != "p95"},
    )
    made = {"single": [msgspec.structs.replace(point, latency=latency)]}
    report = compare_files((made, {}), (made, {}))
    assert "p95" not in [one.figure for one in report.contrasts]


def test_another_version_of_the_document_is_refused(compare_files):
    made = {"single": [build_point(1, 40.0)]}
    with pytest.raises(InvalidConfig, match="has the schema"):
        compare_files((made, {}), (made, {"schema": "seatrial.bench/2"}))


def test_what_is_no_report_is_told(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="is not a benchmark report"):
        compare_reports(PAIR, [tmp_path / "a.json"] * 2, figure=None, sessions=None, margin=0.05)
