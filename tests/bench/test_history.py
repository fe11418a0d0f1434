from __future__ import annotations

import dataclasses
import json
import math
import subprocess

import msgspec
import numpy as np
import pytest

from bench_reports import build_open_point, build_point
from seatrial.bench.history import (
    HistoryEntry,
    append_history,
    commit_of,
    fewest_entries,
    history_entry,
    read_history,
    series_of,
)
from seatrial.bench.report_data import Run
from seatrial.bench.run import IN_PROCESS
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.rate_search import RateSearch


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("1")
    git(folder, "add", "file")
    git(folder, "commit", "-qm", "first")
    return folder


def entries(levels, *, figure="single-stream, 1 session: p50_ms", seed=1, noise=0.01, **changes):
    """A benchmark a day, with these levels of a figure."""
    draw = np.random.default_rng(seed)
    plain = {"machine": "EPYC", "model": "tiny", "images": "ab", **changes}
    return [
        HistoryEntry(
            at=f"2026-10-{number + 1:02}T10:00:00+00:00",
            commit=f"{number:040x}",
            figures={figure: level * float(np.exp(draw.normal(0, noise)))},
            **plain,
        )
        for number, level in enumerate(levels)
    ]


def test_a_line_has_the_figures_and_what_they_were_measured_on(full_report, repository, tmp_path):
    file = tmp_path / "deep" / "history.jsonl"
    model = {"name": "tiny", "digest": "12ab"}
    written = append_history(file, msgspec.structs.replace(full_report, model=model), repository)
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["schema"] == "seatrial.history/1"
    assert read_history(file) == [written]
    assert written.commit == git(repository, "rev-parse", "HEAD")
    assert not written.changed
    assert written.at == full_report.created_at
    assert written.machine == "AMD EPYC, 2 usable of 2 cores, 24 GiB"
    assert (written.model, written.digest) == ("tiny", "12ab")
    assert written.images == full_report.images.digest
    assert written.command == full_report.command
    point = full_report.runs[0].points[0]
    figures = written.figures
    assert figures["single-stream, 1 session: p99_ms"] == point.latency.percentiles["p99"].value_ms
    assert figures["single-stream, 1 session: goodput_per_s"] == point.goodput_per_s
    assert "scaling, 8 sessions: p50_ms" in figures


def test_a_line_that_was_cut_spoils_no_other_one(full_report, tmp_path):
    file = tmp_path / "history.jsonl"
    file.write_text('{"at": "2026')
    append_history(file, full_report, tmp_path)
    append_history(file, full_report, tmp_path)
    cut, first, second = file.read_text().splitlines()
    assert (cut, first) == ('{"at": "2026', second)
    with pytest.raises(InvalidConfig, match="line 1 is none"):
        read_history(file)


def test_lines_are_appended(full_report, tmp_path):
    file = tmp_path / "history.jsonl"
    append_history(file, full_report, tmp_path)
    first = file.read_text()
    append_history(file, full_report, tmp_path)
    assert file.read_text() == first * 2
    assert len(read_history(file)) == 2


def test_a_service_elsewhere_is_a_machine_of_its_own(make_report, tmp_path):
    report = make_report(single=[build_point(1, 40.0)], local=False)
    assert append_history(tmp_path / "h", report, tmp_path).machine == report.target.url


def test_percentiles_without_their_sample_and_void_windows_are_left_out(make_report, tmp_path):
    late = build_open_point(late_ms=60.0)
    assert late.void
    report = make_report(single=[build_point(1, 40.0, count=100)], server=[late])
    found = append_history(tmp_path / "h", report, tmp_path).figures
    assert sorted(found) == [
        f"single-stream, 1 session: {n}"
        for n in ("failed_share", "goodput_per_s", "p50_ms", "p90_ms")
    ]


def test_a_folder_that_differs_from_its_commit_is_told(repository, tmp_path):
    commit, changed = commit_of(repository)
    assert len(commit) == 40
    assert not changed
    (repository / "new").write_text("")  # not of the repository
    assert commit_of(repository) == (commit, False)
    (repository / "file").write_text("2")
    assert commit_of(repository) == (commit, True)


def test_outside_of_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == ("", False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert commit_of(tmp_path) == ("", False)


def test_what_cannot_be_written_is_told(full_report, tmp_path):
    with pytest.raises(NotWritable, match="history"):
        (tmp_path / "history").mkdir()
        append_history(tmp_path / "history", full_report, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 2 is none of a history"),
        ("{}", "line 2 is none of a history"),
        ('{"schema": "seatrial.history/9", "at": "", "machine": "", "figures": {}}', "history/9"),
    ],
)
def test_a_line_of_something_else_is_told(tmp_path, text, words):
    good = msgspec.json.encode(entries([1.0])[0]).decode()
    (tmp_path / "h").write_text(f"{good}\n{text}\n\n")
    with pytest.raises(InvalidConfig, match=words):
        read_history(tmp_path / "h")


def test_a_history_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_history(tmp_path / "none")


def test_a_history_is_read_by_time(tmp_path):
    rows = entries([20.0] * 4)
    (tmp_path / "h").write_bytes(b"\n".join(map(msgspec.json.encode, rows[::-1])))
    assert read_history(tmp_path / "h") == rows


def test_the_commit_is_found_at_which_a_series_changed():
    (series,) = series_of(entries([20.0] * 10 + [22.0] * 8))
    (change,) = series.changes
    assert series.entries[change.index].commit == f"{10:040x}"
    assert change.ratio == pytest.approx(1.1, rel=0.02)
    assert series.worse(change)
    assert series.values[0] == pytest.approx(20.0, rel=0.05)


def test_more_answers_a_second_are_a_change_for_the_better():
    (series,) = series_of(entries([20.0] * 10 + [22.0] * 8, figure="x: goodput_per_s"))
    assert not series.worse(series.changes[0])
    (series,) = series_of(entries([22.0] * 10 + [20.0] * 8, figure="x: goodput_per_s"))
    assert series.worse(series.changes[0])
    (series,) = series_of(entries([22.0] * 10 + [20.0] * 8))
    assert not series.worse(series.changes[0])


@pytest.mark.parametrize("key", ["machine", "model", "images"])
def test_two_machines_models_or_sets_of_images_are_never_one_series(key):
    rows = entries([20.0] * 10) + entries([30.0] * 10, seed=2, **{key: "other"})
    found = series_of(sorted(rows, key=lambda row: row.at))
    assert [len(series.entries) for series in found] == [10, 10]
    assert [series.changes for series in found] == [(), ()]
    assert {series.machine for series in found} == (
        {"EPYC", "other"} if key == "machine" else {"EPYC"}
    )


def test_lines_without_a_figure_are_left_out():
    rows = entries([20.0] * 6)
    rows[2].figures.clear()
    (series,) = series_of(rows)
    assert len(series.entries) == 5


def test_a_change_is_seen_from_so_many_entries_on_and_not_before():
    fewest = fewest_entries()
    for count, seen in ((fewest, 1), (fewest - 1, 0)):
        half = count // 2
        (series,) = series_of(entries([10.0] * half + [20.0] * (count - half)))
        assert len(series.changes) == seen


def test_a_goodput_that_falls_to_0_is_a_change_for_the_worse():
    rows = entries([10.0] * 8 + [20.0] * 8, figure="x: goodput_per_s")
    for row in rows[8:]:
        row.figures["x: goodput_per_s"] = 0.0
    (series,) = series_of(rows)
    (change,) = series.changes
    assert (change.after, series.worse(change)) == (0.0, True)
    (series,) = series_of([*rows[8:], *rows[:8]])
    assert series.changes[0].ratio == math.inf
    assert not series.worse(series.changes[0])
    for row in rows:
        row.figures["x: goodput_per_s"] = 0.0
    assert series_of(rows)[0].changes == ()


def test_requests_that_fail_are_a_series_of_their_own(make_report, tmp_path):
    report = make_report(single=[build_point(1, 40.0)], server=[build_open_point(failed=80)])
    figures = append_history(tmp_path / "h", report, tmp_path).figures
    assert figures["single-stream, 1 session: failed_share"] == 0.0
    assert [value for name, value in figures.items() if name.startswith("server")][-1] == 0.1
    (series,) = series_of(
        [row for row in entries([1.0] * 16, figure="x: failed_share")
         if row.figures.update({"x: failed_share": 0.02 * (row.at >= "2026-10-09")}) is None]
    )  # fmt: skip
    assert series.worse(series.changes[0])


def test_times_of_other_zones_are_in_their_order_and_no_time_is_told(tmp_path):
    rows = [
        msgspec.structs.replace(row, at=at)
        for row, at in zip(
            entries([20.0] * 3),
            ("2026-10-01T15:00:00+10:00", "2026-10-01T04:00:00", "2026-10-01T06:00:00Z"),
            strict=True,
        )
    ]
    file = tmp_path / "h"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    assert [row.at for row in read_history(file)] == [
        f"2026-10-01T0{hour}:00:00+00:00" for hour in (4, 5, 6)
    ]
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(rows[0], at="yesterday")))
    with pytest.raises(InvalidConfig, match="line 1 has the time 'yesterday'"):
        read_history(file)


def test_the_highest_rate_of_a_search_is_a_figure_and_its_trials_are_none(make_report, tmp_path):
    report = make_report(server=[build_open_point(10.0)])
    for low_hz, wanted in ((17.0, ["server, p99 within 100 ms: rate_per_s"]), (0.0, [])):
        found = RateSearch(19.5, low_hz, 22.0, "budget", 60.0, ())
        run = Run("server", report.runs[0].points, "open", found, 100.0, "p99")
        entry = append_history(
            tmp_path / "h", msgspec.structs.replace(report, runs=(run,)), tmp_path
        )
        assert [*entry.figures] == wanted


def test_ways_to_measure_are_series_of_their_own(make_report, tmp_path):
    report = make_report(scaling=[build_point(4, 40.0)])
    options = dataclasses.replace(report.options, client_processes=2, latency_limit_ms=45.0)
    changed = msgspec.structs.replace(report, options=options)
    grpc = msgspec.structs.replace(report.target, protocol="grpc")
    files = [
        append_history(tmp_path / "h", one, tmp_path)
        for one in (
            report, changed, msgspec.structs.replace(report, target=grpc),
            msgspec.structs.replace(report, target=IN_PROCESS),
        )
    ]  # fmt: skip
    plain = "openvino, f32, cpu"
    assert [one.setup for one in files] == [
        plain, f"{plain}, 2 client processes", f"{plain}, grpc", f"{plain}, in process"
    ]  # fmt: skip
    layout = {"workers": 1, "instances": 2, "threads": 1, "cores": 2}
    laid = msgspec.structs.replace(report, model={**report.model, "layout": layout})
    assert history_entry(laid, tmp_path).setup == f"{plain}, 1 x 2 x 1 threads"
    assert "scaling, 4 sessions within 45 ms: goodput_per_s" in files[1].figures
    # Goodput, failed share and three percentiles at least, of each way.
    found = series_of(read_history(tmp_path / "h"))
    assert {one.setup for one in found} == {one.setup for one in files}
    assert all(len(one.entries) == 1 for one in found)
