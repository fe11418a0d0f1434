from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console

from bench_reports import build_open_point
from seatrial.bench.report import read_report
from seatrial.bench.terminal import render_terminal
from seatrial.report.numbers import significant

OLD = Path(__file__).parents[1] / "support" / "bench_report_1.json"


def printed(report, width=120):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render_terminal(report))
    return out.getvalue()


def test_every_finding_and_every_point_is_printed(full_report):
    text = " ".join(printed(full_report, width=400).split())
    for finding in full_report.findings:
        assert finding.text in text
    for sessions in (1, 2, 4, 8):
        assert f"scaling {sessions} " in text
    assert text.index("never an SLO result") < text.index("What it means")


def test_tables_have_names_on_the_left_and_numbers_under_the_end_of_their_heading(full_report):
    lines = printed(full_report).splitlines()
    headings = [n for n, line in enumerate(lines) if line.startswith(" scenario")]
    assert len(headings) == 2
    for n in headings:
        end = lines[n].index(" load ") + len(" load")
        rows = [
            line for line in lines[n : n + 13] if line.startswith((" single-stream", " scaling"))
        ]
        assert [line[:end].split() for line in rows] == [
            ["single-stream", "1", "session"],
            ["scaling", "1", "session"],
            *(["scaling", count, "sessions"] for count in "248"),
        ]
    for caption in ("latency in ms; a dash", "busy cores over the window"):
        assert any(line.startswith(caption) for line in lines)


def test_names_are_not_read_as_markup(make_report, point):
    report = make_report(
        single=[point(1, failed=2, error="[red]x[/nothing]")], model={"name": "[b]"}
    )
    text = printed(report)
    assert "[red]x[/nothing]" in text
    assert "[b]" in text


def test_degenerate_reports_are_printed(make_report, point):
    assert "timeout" in printed(make_report(scaling=[point(1, count=4, failed=4, error="timeout")]))
    remote = make_report(scaling=[point(n, server_cores=None) for n in (1, 2)], local=False)
    assert "\N{EN DASH}" in printed(remote)


def test_the_first_line_says_which_loop(make_report, point):
    lines = printed(make_report(server=[build_open_point(20.0)])).splitlines()
    assert lines[0].strip() == "Seatrial benchmark, open loop"
    assert printed(make_report(single=[point(1)])).startswith("Seatrial benchmark, closed loop")


def test_a_report_of_an_earlier_release_is_printed():
    assert "2 sessions" in printed(read_report(OLD))


def test_an_interval_stands_below_its_percentile(make_report, point):
    report = make_report(single=[point(1, count=700)])
    found = report.runs[0].points[0].latency.percentiles
    lines = printed(report).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(" single-stream"))
    ends = " ".join(lines[at + 1].split())
    assert ends == " ".join(
        f"{significant(one.low_ms)} to {significant(one.high_ms)}" for one in found.values()
    )


def test_a_percentile_of_an_older_report_has_no_second_line(make_report, point):
    report = make_report(single=[point(1, count=700)])
    single = report.runs[0].points[0]
    older = {
        name: msgspec.structs.replace(one, low_ms=None, high_ms=None)
        for name, one in single.latency.percentiles.items()
    }
    latency = msgspec.structs.replace(single.latency, percentiles=older)
    run = msgspec.structs.replace(
        report.runs[0], points=(msgspec.structs.replace(single, latency=latency),)
    )
    text = printed(msgspec.structs.replace(report, runs=(run,)))
    assert " to " not in text[text.index(" single-stream") : text.index("latency in ms")]
