from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import pytest

from bench_reports import build_point
from seatrial.bench.compare_report import read_comparison
from seatrial.bench.history import HistoryEntry
from seatrial.cli.compare import compare, contenders_of
from seatrial.config import encode_json
from seatrial.errors import InvalidConfig

pytestmark = pytest.mark.slow


def run(*arguments, home):
    command = [sys.executable, "-m", "seatrial.cli.main", "compare", *map(str, arguments)]
    environment = os.environ | {"SEATRIAL_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def reports(make_report, tmp_path):
    """Two reports of lone requests, of 40 ms and of 44 ms."""
    paths = []
    for latency_ms in (40.0, 44.0):
        paths.append(tmp_path / f"{latency_ms:.0f}.json")
        paths[-1].write_bytes(encode_json(make_report(single=[build_point(1, latency_ms)])))
    return paths


def test_words_are_told_apart():
    found = contenders_of(["a.toml", "http://127.0.0.1:1", "yolo11n"])
    assert [(one.label, one.name, one.kind) for one in found] == [
        ("A", "a.toml", "deployment"),
        ("B", "http://127.0.0.1:1", "service"),
        ("C", "yolo11n", "deployment"),
    ]
    assert [one.kind for one in contenders_of(["a.json", "b.json"])] == ["report"] * 2
    assert contenders_of(["grpc://h:1"] * 8)[7].label == "H"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "0 given to compare; 2 to 8 are needed"),
        (("a",), "1 given to compare"),
        (("a",) * 9, "9 given to compare"),
        (("a.json", "b.toml"), "a report was measured before"),
    ],
)
def test_too_few_too_many_and_a_report_beside_a_service_are_errors(words, said):
    with pytest.raises(InvalidConfig, match=said):
        contenders_of(words)


def test_a_folder_with_a_report_and_an_address_without_its_scheme_are_told(tmp_path):
    (tmp_path / "report.json").touch()
    with pytest.raises(InvalidConfig, match="is a folder with a report"):
        contenders_of([str(tmp_path), "b"])
    with pytest.raises(InvalidConfig, match="localhost:3000 has no scheme"):
        contenders_of(["localhost:3000", "b"])
    kinds = [one.kind for one in contenders_of(["a.JSON", "b.json"])]
    kinds += [one.kind for one in contenders_of(["HTTP://h:1", "yolo11n"])]
    assert kinds == ["report", "report", "service", "deployment"]


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["a.toml", "b.toml"], [], "no images to send"),
        (["a.toml", "b.toml"], ["--images", "x", "--force"], "--force is for reports"),
        (["a.json", "b.json"], ["--images", "x"], "reports have been measured"),
        (["a.json", "b.json"], ["--fail-if-slower", "5"], "--fail-if-slower must be a percentage"),
        (["a.toml", "b.toml"], ["--images", "x", "--rounds", "5"], "--rounds must be 6 or more"),
        (["a.toml", "b.toml"], ["--history", "h"], "--history shows the changes of one history"),
    ],
)
def test_what_is_wrong_is_an_error_before_anything_starts(words, options, said, tmp_path):
    done = run(*words, *options, "-o", tmp_path, home=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(("limit", "code"), [("5%", 8), ("15%", 0), ("10%", 9)])
def test_reports_are_compared_and_the_exit_code_is_the_verdict(reports, tmp_path, limit, code):
    done = run(*reports, "--fail-if-slower", limit, "-o", tmp_path / "out", home=tmp_path)
    assert done.returncode == code, done.stderr
    words = " ".join(done.stdout.split())  # a pipe has lines of 120 characters
    assert words.startswith(f"B ({reports[1]}) is slower than A ({reports[0]}) in these two runs")
    report = read_comparison(tmp_path / "out" / "compare.json")
    assert report.verdict.outcome == {8: "fails", 0: "holds", 9: "undecided"}[code]
    assert report.command.startswith("seatrial compare")
    assert "compare.html" in done.stderr
    assert (tmp_path / "out" / "compare.html").is_file()


def test_the_json_is_the_report(reports, tmp_path):
    done = run(*reports, "--json", "-o", tmp_path, home=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == "seatrial.compare/1"
    assert json.loads(done.stdout) == json.loads((tmp_path / "compare.json").read_text())


def test_two_running_services_are_compared(detector, image_folder, tmp_path):
    fast, slow = detector(hold_ms=2), detector(hold_ms=12)
    done = run(
        *(fast.url, slow.url, "--images", image_folder, "-o", tmp_path, "--rounds", "6"),
        *("--block-s", "1", "--warmup-s", "0", "--fail-if-slower", "20%"),
        home=tmp_path,
    )
    assert done.returncode == 8, done.stderr
    report = read_comparison(tmp_path / "compare.json")
    assert report.deciding[0].answer == "slower"
    assert [one.kind for one in report.contenders] == ["service", "service"]
    assert fast.seen()["images"] > 12 * 10


def test_deployments_are_started_for_each_round(tiny_artifact, image_folder, tmp_path):
    file = tmp_path / "b.toml"
    file.write_text(f'model = "{tiny_artifact.path}"\nengine = "null"\n[layout]\nworkers = 1\n')
    done = run(
        *(file, file, "--images", image_folder, "-o", tmp_path, "--rounds", "6"),
        *("--block-s", "0.2", "--warmup-s", "0", "--json"),
        home=tmp_path / "home",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [one["deployment"]["engine"] for one in report["contenders"]] == ["null", "null"]
    assert not any("not started anew" in caveat for caveat in report["caveats"])
    assert len(report["blocks"]) == 24
    assert [*(tmp_path / "home" / "services").iterdir()] == []


def test_a_history_shows_the_commit_at_which_it_changed(tmp_path, capsys):
    file = tmp_path / "history.jsonl"
    rows = [
        HistoryEntry(
            at=f"2026-10-{n + 1:02}T10:00:00+00:00",
            commit=f"{n:x}" * 40,
            machine="EPYC",
            figures={
                "single-stream, 1 session: p50_ms": (20.0 if n < 8 else 23.0) + 0.01 * (n % 2)
            },
        )
        for n in range(16)
    ]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    compare(history=file)
    assert "last change for the worse at 8888888888" in capsys.readouterr().out
    compare(history=file, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "seatrial.changes/1"
    (series,) = document["series"]
    assert [change["index"] for change in series["changes"]] == [8]
