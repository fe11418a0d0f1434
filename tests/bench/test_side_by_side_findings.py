from __future__ import annotations

import msgspec
import pytest

from bench_fixtures import check_traceable
from seatrial.load.images import load_images
from side_by_side_reports import build_setup, build_side_by_side


@pytest.fixture
def images(image_folder):
    return load_images(image_folder).summary


def ids(report):
    return [finding.id for finding in report.findings]


def text_of(report, code):
    return next(finding.text for finding in report.findings if finding.id == code)


def test_the_headline_names_the_best_of_the_largest_load_and_the_fastest_lone_request(images):
    report = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 25.0, 25.0, 25.0),
        build_setup(images, "uvicorn", "grpc", 20.0, 20.0, 20.0),
    )
    (headline,) = report.of_kind("headline")
    assert headline.severity == "good"
    assert headline.text == (
        "Most good answers with 4 sessions: 50.0/s, uvicorn by grpc; fastest lone request: "
        "20.0 ms (p50), uvicorn by grpc."
    )
    check_traceable(report)


def test_the_headline_says_where_the_rounds_tell_nothing(images):
    report = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 20.5, 21.5, 22.5),
        build_setup(images, "uvicorn", "http", 20.0, 21.0, 22.0),
    )
    overlap = ", whose rounds overlap with those of others"
    assert text_of(report, "headline") == (
        f"Most good answers with 4 sessions: 47.6/s, uvicorn by http{overlap}; fastest lone "
        f"request: 21.0 ms (p50), uvicorn by http{overlap}."
    )
    check_traceable(report)


def test_lone_requests_are_compared_by_one_figure(images):
    """By the mean of all, where the sample of one is too small for its median."""
    report = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 20.0),
        build_setup(images, "triton", "v2", 30.0, count=5),
        rounds=1,
    )
    assert "fastest lone request: 20.0 ms (mean), bentoml by http." in text_of(report, "headline")
    check_traceable(report)


def test_what_was_not_measured_says_why_and_what_to_do(images):
    missing = msgspec.structs.replace(
        build_setup(images, "triton", "v2"), missing="no Triton server", hint="install one"
    )
    stopped = msgspec.structs.replace(
        build_setup(images, "bentoml", "v2", 20.0), missing="it died", hint=""
    )
    report = build_side_by_side(images, missing, stopped)
    found = [finding.text for finding in report.findings if finding.id == "not-measured"]
    assert found == [
        "triton by v2 was not measured: no Triton server; to do: install one.",
        "bentoml by v2 was not measured in all rounds: it died.",
    ]
    check_traceable(report)


def test_ranges_that_overlap_tell_nothing(images):
    near = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 20.0, 21.0, 22.0),
        build_setup(images, "uvicorn", "http", 20.5, 21.5, 22.5),
        build_setup(images, "triton", "v2", 40.0, 41.0, 42.0),
    )
    assert ids(near).count("overlap") == 2
    assert text_of(near, "overlap") == (
        "single-stream, 1 session: the rounds do not show whether bentoml by http gives more good "
        "answers than uvicorn by http: their ranges overlap."
    )
    check_traceable(near)
    apart = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 20.0, 21.0),
        build_setup(images, "uvicorn", "http", 30.0, 31.0),
        rounds=2,
    )
    assert "overlap" not in ids(apart)


def test_one_round_shows_no_spread(images):
    one = build_side_by_side(images, build_setup(images, "uvicorn", "http", 20.0), rounds=1)
    assert "--rounds" in text_of(one, "one-round")
    assert "rounds" not in ids(one)
    several = build_side_by_side(images, build_setup(images, "uvicorn", "http", 20.0, 21.0))
    assert text_of(several, "rounds").startswith("Each figure is the median of 3 rounds")
    check_traceable(one)
    check_traceable(several)


def test_caveats_of_the_measurements_come_once_from_where_they_weigh_most(images):
    report = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 20.0, 20.0, other_cores=0.2),
        build_setup(images, "uvicorn", "http", 20.0, 20.0, other_cores=0.9),
        build_setup(images, "triton", "v2", 20.0, 20.0, failed=9),
    )
    for code in ("closed-loop", "other-load", "failures", "few-images"):
        assert ids(report).count(code) <= 1
    assert "other-load" in ids(report)
    assert text_of(report, "other-load").startswith("uvicorn by http: The machine was not quiet")
    assert "45%" in text_of(report, "other-load")
    assert text_of(report, "failures").startswith("triton by v2: ")
    assert text_of(report, "closed-loop").startswith("Load: closed-loop")
    assert report.of_kind("headline")[0].severity == "warn"
    check_traceable(report)


def test_no_good_answer_is_no_best_setup(images):
    report = build_side_by_side(
        images, build_setup(images, "triton", "v2", 20.0, count=50, failed=50), rounds=1
    )
    (headline,) = report.of_kind("headline")
    assert (headline.severity, headline.text) == ("bad", "No setup gave a good answer.")


def test_one_cause_for_several_protocols_is_told_once(images):
    missing = [
        msgspec.structs.replace(
            build_setup(images, "triton", protocol), missing="no Triton server", hint="install one"
        )
        for protocol in ("http", "v2", "grpc")
    ]
    report = build_side_by_side(images, *missing, build_setup(images, "bentoml", "v2", 20.0))
    assert [finding.text for finding in report.findings if finding.id == "not-measured"] == [
        "triton by http, v2 and grpc was not measured: no Triton server; to do: install one."
    ]
    check_traceable(report)
