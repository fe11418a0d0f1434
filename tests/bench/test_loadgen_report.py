from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from bench_reports import build_point, build_report
from json_schemas import against_schema
from seatrial.bench.loadgen_log import LoadgenFigures
from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.bench.loadgen_report import (
    SCHEMA,
    LoadgenReport,
    read_loadgen_report,
    render_loadgen,
    write_loadgen_report,
)
from seatrial.bench.loadgen_system import ClientFigures
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.images import load_images
from seatrial.load.statistics import latency


@pytest.fixture
def report(image_folder):
    like = build_report(load_images(image_folder).summary, [build_point(1)])
    return LoadgenReport(
        schema=SCHEMA,
        created_at="2026-01-01T00:00:00+00:00",
        command="seatrial loadgen server",
        elapsed_s=60.0,
        scenario="server",
        loop="open",
        target=like.target,
        options=LoadgenOptions(images="photos", timeout_s=7.0),
        model=None,
        images=like.images,
        environment=like.environment,
        loadgen=LoadgenFigures(
            version="6",
            validity="VALID",
            reasons=(),
            queries=700,
            rate_per_s=19.5,
            mean_ms=12.5,
            percentiles_ms={"p50": 11.5, "p99": 33.3},
            early_stopping="",
            warnings=(),
            settings={"target_qps": 20},
        ),
        client=ClientFigures(
            queries=700,
            images=700,
            failed=0,
            errors={},
            good_per_s=19.25,
            latency=latency([11.0] * 700),
            service=latency([10.0] * 700),
            hand_over=latency([0.1] * 700),
            gone=False,
        ),
    )


def shown(report) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(render_loadgen(report))
    return stream.getvalue()


def test_it_reads_what_it_wrote(report, tmp_path):
    file = write_loadgen_report(report, tmp_path)
    assert file.name == "loadgen.json"
    assert read_loadgen_report(file) == report
    assert against_schema("loadgen", json.loads(file.read_bytes())) == []
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="is not a report of LoadGen"):
        read_loadgen_report(tmp_path / "other.json")
    with pytest.raises(NotWritable):
        write_loadgen_report(report, tmp_path / "none")


def test_the_table_has_both_accounts(report):
    text = shown(report)
    assert "LoadGen server (open loop): VALID" in text
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines() if line.strip()}
    assert rows["LoadGen"] == ["LoadGen", "700", "19.5", "11.5", "–", "–", "33.3", "12.5"]  # noqa: RUF001
    assert rows["client"][:4] == ["client", "700", "19.2", "11.0"]
    assert rows["send to answer"][-1] == "10.0"


def test_the_judged_percentile_is_in_the_table(report):
    assert "p99 *" in shown(report)
    options = LoadgenOptions(images="photos", percentile="p99.9")
    theirs = msgspec.structs.replace(
        report.loadgen, percentiles_ms={**report.loadgen.percentiles_ms, "p99.9": 44.4}
    )
    text = shown(msgspec.structs.replace(report, options=options, loadgen=theirs))
    assert "p99.9 *" in text
    assert "p99 *" not in text
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("LoadGen  ")]
    assert row[-2:] == ["44.4", "12.5"]


def test_failures_make_a_run_invalid_of_which_loadgen_knows_nothing(report):
    assert report.valid
    assert report.reasons == ()
    client = msgspec.structs.replace(report.client, failed=2, errors={"timeout": 2})
    failed = msgspec.structs.replace(report, client=client)
    assert not failed.valid
    assert failed.reasons == (
        "2 images of 700 had no good answer (timeout: 2); LoadGen was told of them 7 s after "
        "their issue",
    )
    assert "INVALID" in shown(failed)


def test_loadgens_word_is_passed_on(report):
    theirs = msgspec.structs.replace(report.loadgen, validity="INVALID", reasons=("too short",))
    invalid = msgspec.structs.replace(report, loadgen=theirs)
    assert not invalid.valid
    assert invalid.reasons == ("too short",)
