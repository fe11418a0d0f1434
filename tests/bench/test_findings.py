from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.findings import TABLE, interpret
from seatrial.load.images import SkippedFile, load_images

STAGES = {"decode": 1.5, "preprocess": 0.2, "queue": 0.2, "infer": 35.0}


def ids(report, *kinds):
    return (
        {finding.id for finding in report.of_kind(*kinds)}
        if kinds
        else {finding.id for finding in report.findings}
    )


def text_of(report, name):
    return next(finding.text for finding in report.findings if finding.id == name)


def test_full_report_is_traceable_and_says_what_there_is_to_say(full_report, assert_traceable):
    assert_traceable(full_report)
    assert ids(full_report, "explanation") == {
        "knee",
        "limit-cores",
        "time-by-stage",
        "work-engine",
        "queueing",
    }
    assert ids(full_report, "advice") == {
        "next-precision",
        "next-wider-single",
        "next-limit-concurrency",
    }
    headline = full_report.findings[0]
    assert (headline.id, headline.severity) == ("headline", "good")
    assert "48.2 good answers a second at best" in headline.text
    assert "knee is at 2 sessions" in text_of(full_report, "knee")
    assert "115 ms of queue" in text_of(full_report, "queueing")


def test_closed_loop_label_comes_first_of_all_caveats(full_report):
    first = full_report.of_kind("caveat")[0]
    assert first.id == "closed-loop"
    assert "never an SLO result" in first.text


def test_figures_that_are_not_quoted_are_found(full_report, assert_traceable):
    # The check itself must be able to fail.
    forged = msgspec.structs.replace(full_report.findings[1], text="It is 3 times as fast.")
    with pytest.raises(AssertionError):
        assert_traceable(msgspec.structs.replace(full_report, findings=(forged,)))
    knee = next(finding for finding in full_report.findings if finding.id == "knee")
    proofs = (msgspec.structs.replace(knee.evidence[0], value=7), *knee.evidence[1:])
    forged = msgspec.structs.replace(knee, evidence=proofs)
    with pytest.raises(AssertionError):
        assert_traceable(msgspec.structs.replace(full_report, findings=(forged,)))


def degenerate(make_report, point):
    failing = [point(n, 40.0, count=80, failed=80, error="timeout") for n in (1, 2)]
    bare = [point(n, 40.0 * n, server_cores=None) for n in (1, 2, 4)]
    return {
        "one single-stream point": make_report(single=[point(1, count=20)]),
        "one scaling point": make_report(scaling=[point(4, stages=STAGES)]),
        "everything failed": make_report(single=failing[:1], scaling=failing),
        "remote, without times": make_report(single=bare[:1], scaling=bare, local=False, model={}),
        "a few failed": make_report(scaling=[point(1, failed=3), point(2, 42.0, failed=3)]),
        "a handful of requests": make_report(single=[point(1, count=3)]),
        "odd answers about the model": make_report(
            single=[point(1)], model={"name": ["x"], "precision": 7, "device": None}
        ),
        "strange stage names": make_report(
            single=[point(1, stages={"a/b~c {0}": 20.0, "<script>": 10.0})]
        ),
        "no inference stage": make_report(single=[point(1, stages={"decode": 5.0})]),
    }


CASES = (
    "one single-stream point",
    "one scaling point",
    "everything failed",
    "remote, without times",
    "a few failed",
    "a handful of requests",
    "odd answers about the model",
    "strange stage names",
    "no inference stage",
)


@pytest.mark.parametrize("case", CASES)
def test_degenerate_measurements_are_traceable_too(make_report, point, case, assert_traceable):
    report = degenerate(make_report, point)[case]
    assert_traceable(report)
    assert report.findings[0].kind == "headline"


def test_codes_say_what_they_are_once():
    """A code stands in one kind; two rules with one code differ in severity."""
    kinds = [(rule.code, kind) for kind, rules in TABLE.items() for rule in rules]
    assert len({code for code, _ in kinds}) == len(set(kinds))
    rows = [(rule.code, rule.severity) for rules in TABLE.values() for rule in rules]
    assert [row for row in sorted({*rows}) if rows.count(row) > 1] == [("headline", "warn")]


def test_nothing_good_is_said_in_the_headline(make_report, point):
    report = degenerate(make_report, point)["everything failed"]
    assert report.findings[0].severity == "bad"
    assert "240 of 240 requests failed" in report.findings[0].text
    assert ids(report, "advice") == {"next-errors"}
    assert ids(report, "explanation") == set()


@pytest.mark.parametrize(
    ("commonest", "advice"),
    [
        ("http-503", "next-refused"),
        ("http-500", "next-errors"),
        ("grpc-unavailable", "next-refused"),
    ],
)
def test_refusals_lead_to_the_deadline_and_other_failures_to_the_log(
    make_report, point, commonest, advice
):
    report = degenerate(make_report, point)["everything failed"]
    failures = msgspec.structs.replace(report.analysis.failures, commonest=commonest)
    analysis = msgspec.structs.replace(report.analysis, failures=failures)
    found = interpret(msgspec.structs.replace(report, analysis=analysis))
    assert [one.id for one in found if one.kind == "advice"] == [advice]
    assert ("limits.deadline_s" in found[-1].text) == (advice == "next-refused")


def test_remote_service_gets_no_advice_about_its_cores(make_report, point):
    report = degenerate(make_report, point)["remote, without times"]
    assert "unseen-server" in ids(report)
    assert not ids(report) & {
        "limit-cores",
        "limit-lanes",
        "next-more-instances",
        "next-precision",
        "next-wider-single",
        "client-cost",
    }
    assert "The service at http://127.0.0.1:3000" in report.findings[0].text


def scaling(point, server_cores, last_ms=80.0, **usage):
    points = [(1, 40.0), (2, 40.0), (4, last_ms)]
    return [point(n, ms, stages=STAGES, server_cores=server_cores, **usage) for n, ms in points]


@pytest.mark.parametrize(
    ("usage", "limit"),
    [
        ({"server_cores": 1.9}, "limit-cores"),
        ({"server_cores": 0.9}, "limit-lanes"),
        ({"server_cores": 0.9, "other_cores": 1.0}, "limit-others"),
        ({"server_cores": 0.9, "client_cores": 0.98}, "limit-client"),
        ({"server_cores": 1.6}, None),
    ],
)
def test_one_limit_is_named_and_only_if_the_cores_say_so(
    make_report, point, usage, limit, assert_traceable
):
    report = make_report(scaling=scaling(point, **usage))
    assert_traceable(report)
    named = {name for name in ids(report) if name.startswith("limit-")}
    assert named == ({limit} if limit else set())


def test_idle_cores_on_the_plateau_ask_for_more_instances(make_report, point):
    idle = make_report(scaling=scaling(point, 0.9))
    assert "next-more-instances" in ids(idle)
    # The same service, but it still scaled: nothing is known about its plateau.
    rising = make_report(scaling=scaling(point, 0.9, last_ms=40.0))
    assert "next-more-instances" not in ids(rising)
    assert {"no-knee", "next-more-sessions"} <= ids(rising)
    # Others had the idle core.
    crowded = make_report(scaling=scaling(point, 0.9, other_cores=0.9))
    assert "next-more-instances" not in ids(crowded)
    assert {"other-load", "next-quiet-machine"} <= ids(crowded)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, True),
        ({"features": ("avx2", "avx512f")}, False),
        ({"model": {"name": "tiny", "precision": "bf16", "device": "cpu"}}, False),
        ({"model": {"name": "tiny", "precision": "f32", "device": "cuda"}}, False),
        ({"local": False}, False),
    ],
)
def test_bf16_is_advised_only_where_it_would_work(make_report, point, change, told):
    report = make_report(single=[point(1, 40.0, stages=STAGES)], **change)
    assert ("next-precision" in ids(report)) is told
    light = STAGES | {"infer": 1.0}
    report = make_report(single=[point(1, 40.0, stages=light)], **change)
    assert "next-precision" not in ids(report)


def test_smaller_pictures_are_advised_for_large_ones_that_dominate(
    make_report, point, image_folder, assert_traceable
):
    stages = {"decode": 30.0, "infer": 5.0}
    small = load_images(image_folder).summary
    large = msgspec.structs.replace(small, megapixels_mean=8.3)
    single = [point(1, 40.0, stages=stages)]
    report = make_report(single=single, images=large)
    assert_traceable(report)
    assert {"work-image", "next-smaller-pictures"} <= ids(report)
    assert "next-smaller-pictures" not in ids(make_report(single=single, images=small))


def test_transport_is_told_where_it_is_large(make_report, point):
    assert "transport" in ids(make_report(single=[point(1, 60.0, stages=STAGES)]))
    assert "transport" not in ids(make_report(single=[point(1, 38.0, stages=STAGES)]))


def test_heavy_client_makes_the_figure_a_lower_bound(make_report, point):
    report = make_report(scaling=scaling(point, 0.9, client_cores=0.4))
    assert "lower bound" in text_of(report, "client-cost")
    report = make_report(scaling=scaling(point, 1.9))
    assert "lower bound" not in text_of(report, "client-cost")


def test_the_same_load_with_two_results_is_a_caveat(make_report, point, assert_traceable):
    same = make_report(single=[point(1, 40.0)], scaling=[point(1, 40.5, count=100)])
    assert "repeatability" not in ids(same)
    report = make_report(single=[point(1, 40.0)], scaling=[point(1, 50.0, count=100)])
    assert_traceable(report)
    assert "25.0/s and 20.0/s: differences of up to 20%" in text_of(report, "repeatability")


def test_time_lost_between_requests_is_told(make_report, point, assert_traceable):
    whole = point(4, 40.0)
    lossy = msgspec.structs.replace(whole, in_flight=3.0)
    assert "lost-time" not in ids(make_report(scaling=[point(1), whole]))
    report = make_report(scaling=[point(1), lossy])
    assert_traceable(report)
    assert "3.00 requests were under way on average with 4 sessions" in text_of(report, "lost-time")


def test_the_shape_of_a_curve_needs_answers_and_quiet(make_report, point, assert_traceable):
    shape = {"knee", "queueing", "next-limit-concurrency"}

    def curve(**load):
        return [point(n, 40.0 * max(1, n / 2), **load) for n in (1, 2, 4, 8)]

    assert shape <= ids(make_report(scaling=curve()))
    few = make_report(scaling=[*curve()[:3], point(8, 160.0, count=14)])
    assert_traceable(few)
    assert not shape & ids(few)
    assert "has 14 answers, and 30 are needed" in text_of(few, "curve-few-answers")
    disturbed = make_report(scaling=curve(other_cores=0.8))
    assert_traceable(disturbed)
    assert not shape & ids(disturbed)
    assert "others took up to 40% of the cores" in text_of(disturbed, "curve-disturbed")


def test_more_threads_are_not_advised_to_a_request_that_has_all_cores(make_report, point):
    stages = {"decode": 1.0, "infer": 35.0}
    model = {"name": "tiny", "layout": {"wide_threads": 1}}
    alone = [point(1, 40.0, stages=stages, server_cores=0.9)]
    assert "next-wider-single" in ids(make_report(single=alone, model=model))
    wide = {"name": "tiny", "layout": {"wide_threads": 2}}
    assert "next-wider-single" not in ids(make_report(single=alone, model=wide))
    crowded = [point(1, 40.0, stages=stages, server_cores=0.9, other_cores=1.0)]
    assert "next-wider-single" not in ids(make_report(single=crowded, model=model))


def test_answers_without_any_detection_are_a_caveat(make_report, point, assert_traceable):
    def seeing(detections, **changes):
        changes = {"detections_mean": detections} | changes
        return msgspec.structs.replace(point(), **changes)

    report = make_report(single=[seeing(0.0)], scaling=[seeing(0.0)])
    assert "no-detections" in ids(report, "caveat")
    assert_traceable(report)
    # One good answer with a box is enough; a service of another kind lists none; and where
    # nothing was good, the failures say so.
    for points in ([seeing(0.0), seeing(0.001)], [seeing(None)], [seeing(None, good=0)]):
        assert "no-detections" not in ids(make_report(scaling=points))
    assert "no-detections" in ids(make_report(scaling=[seeing(0.0), seeing(None, good=0)]))


def test_small_sample_steal_and_skipped_files_are_caveats(
    make_report, point, image_folder, assert_traceable
):
    summary = msgspec.structs.replace(
        load_images(image_folder, limit=3).summary,
        skipped_count=1,
        skipped=(SkippedFile("bad {x} 42.jpg", "truncated (7 bytes)"),),
    )
    report = make_report(single=[point(1, count=100, steal_share=0.05)], images=summary)
    assert_traceable(report)
    assert {"unprinted-percentiles", "stolen-time", "skipped-images", "few-images"} <= ids(report)
    assert "p99 (100 requests; 662 are needed)" in text_of(report, "unprinted-percentiles")
    smaller = make_report(single=[point(1, count=21)])
    words = text_of(smaller, "unprinted-percentiles")
    needed = {"p90": 64, "p95": 130, "p99": 662}
    told = (f"{name} (21 requests; {count} are needed)" for name, count in needed.items())
    assert "; ".join(told) in words


def test_an_open_loop_says_that_latency_counts_from_the_due_time(make_report, assert_traceable):
    report = make_report(server=[build_open_point(5.0), build_open_point(20.0, 50.0, late_ms=4.0)])
    assert_traceable(report)
    assert report.findings[0].severity == "good"
    assert "Poisson, 20/s) are answered within 59" in report.findings[0].text
    assert ids(report, "caveat") >= {"open-loop"}
    assert not ids(report) & {"closed-loop", "void", "overwhelmed"}
    # The mean from the due time, and from the send, which half of the requests had 4 ms later.
    assert "54.5 ms on average, 52.5 ms from the send" in text_of(report, "open-loop")


def test_a_void_window_is_said_first_and_is_no_headline(make_report, assert_traceable):
    late = build_open_point(50.0, late_ms=30.0)
    report = make_report(server=[build_open_point(5.0), late])
    assert_traceable(report)
    assert report.of_kind("caveat")[0].id == "void"
    assert "Poisson, 50/s: 50.0% of the requests were sent more than" in text_of(report, "void")
    assert "Poisson, 5/s" in report.findings[0].text


@pytest.mark.parametrize("how", [{"failed": 300}, {"grows_ms": 9000.0}], ids=["failed", "grows"])
def test_arrivals_that_are_too_many_are_said(make_report, assert_traceable, how):
    report = make_report(server=[build_open_point(5.0), build_open_point(60.0, **how)])
    assert_traceable(report)
    assert "at Poisson, 60/s: 60" in text_of(report, "overwhelmed")


def test_a_window_that_was_not_steady_is_told(make_report, point, assert_traceable):
    one = build_open_point(10.0, seconds=9.0)
    slices = tuple(
        msgspec.structs.replace(part, p50_ms=80.0 if n < 3 else 20.0)
        for n, part in enumerate(one.timeline.slices)
    )
    cut = msgspec.structs.replace(one.timeline, slices=slices)
    report = make_report(single=[msgspec.structs.replace(point(1), timeline=cut)])
    assert_traceable(report)
    assert "went from 80.0 ms in the first third" in text_of(report, "unsteady")
    assert "unsteady" not in ids(make_report(single=[point(1)]))


def test_each_kind_of_load_is_told_although_windows_are_void(make_report, point, assert_traceable):
    late = [build_open_point(rate, late_ms=40.0) for rate in (20.0, 60.0)]
    report = make_report(single=[point(1)], server=late)
    assert_traceable(report)
    assert "closed-loop (single-stream)" in text_of(report, "closed-loop")
    assert "open-loop (Poisson, 20/s)" in text_of(report, "open-loop-void")
    assert "Void windows: 2, the first at Poisson, 20/s: " in text_of(report, "void")
