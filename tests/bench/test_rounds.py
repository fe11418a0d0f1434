from __future__ import annotations

import contextlib

import pytest

from seatrial.bench import rounds as module
from seatrial.bench.rounds import measure_side_by_side
from seatrial.errors import InvalidConfig, MissingExtra, ServiceFailed
from seatrial.load.images import load_images

pytestmark = pytest.mark.slow


@pytest.fixture
def measure(detector, quick, image_folder):
    """Measures stand-ins as runtimes: gives the report, the starts, and the progress."""

    def run(runtimes, protocols=("http",), *, rounds=2, **changes):
        starts, said = [], []

        @contextlib.contextmanager
        def start(runtime, asked):
            starts.append((runtime, list(asked)))
            behaviour = runtimes[runtime]
            if isinstance(behaviour, Exception):
                raise behaviour
            service = detector(hold_ms=1, **behaviour)
            yield dict.fromkeys(("http", "v2", "grpc"), service.url)
            service.process.terminate()

        def on_progress(what, done=0, total=0, *, unit=""):
            said.append((what, done, total))

        options = {"sessions": (1,), "point_s": 0.2, "warmup_s": 0.0, **changes}
        report = measure_side_by_side(
            list(runtimes),
            protocols,
            start,
            quick(**options),
            rounds=rounds,
            images=load_images(image_folder),
            deployment={"model": "tiny"},
            on_progress=on_progress,
            command="seatrial bench",
        )
        return report, starts, said

    return run


def test_each_runtime_is_started_anew_in_each_round_and_every_second_goes_back(measure):
    report, starts, said = measure({"a": {}, "b": {}}, rounds=3)
    assert [runtime for runtime, _ in starts] == ["a", "b", "b", "a", "a", "b"]
    assert [(setup.name, len(setup.reports)) for setup in report.setups] == [
        ("a, http", 3), ("b, http", 3)
    ]  # fmt: skip
    assert [(row.runtime, row.sessions, row.rounds) for row in report.rows] == [
        ("a", 1, 3), ("b", 1, 3)
    ]  # fmt: skip
    assert all(row.good > 0 for row in report.rows)
    assert report.findings[0].id == "headline"
    assert (report.command, report.rounds, report.deployment) == (
        "seatrial bench", 3, {"model": "tiny"}
    )  # fmt: skip
    words = [what for what, _, total in said if total]
    assert words[0] == "a, http, round 1 of 3: asking the service"
    assert "b, http, round 2 of 3: scaling 1/1, 1 session" in words
    done = [done for _, done, total in said if total]
    assert done == sorted(done)
    assert len({total for *_, total in said if total}) == 1


def test_what_cannot_be_started_or_asked_says_why_and_is_not_tried_again(measure):
    runtimes = {"none": MissingExtra("no server", hint="install it"), "good": {}}
    report, starts, _ = measure(runtimes, ("http", "v2"))
    assert starts == [
        ("none", ["http", "v2"]), ("good", ["http", "v2"]), ("good", ["http"])
    ]  # fmt: skip
    by_name = {setup.name: setup for setup in report.setups}
    for name in ("none, http", "none, v2"):
        assert (by_name[name].missing, by_name[name].hint) == ("no server", "install it")
    assert by_name["good, http"].missing == ""
    assert "lists no model" in by_name["good, v2"].missing
    assert {(row.runtime, row.protocol) for row in report.rows} == {("good", "http")}
    found = [finding.text for finding in report.findings if finding.id == "not-measured"]
    assert len(found) == 2
    assert found[0].startswith("none by http and v2 was not measured: no server")


def test_a_service_that_dies_in_a_later_round_keeps_its_rounds(measure, monkeypatch):
    measured, count = module.run_benchmark, 0

    def second_fails(*given, **named):
        nonlocal count
        count += 1
        if count == 2:
            raise ServiceFailed("it stopped answering")
        return measured(*given, **named)

    monkeypatch.setattr(module, "run_benchmark", second_fails)
    report, starts, _ = measure({"a": {}}, rounds=3)
    (setup,) = report.setups
    assert (len(setup.reports), setup.missing, len(starts)) == (1, "it stopped answering", 2)
    assert report.rows[0].rounds == 1


def test_without_grpc_the_others_are_measured(measure, monkeypatch):
    def missing(module, *, extra, purpose):
        raise MissingExtra(f"{module} is not installed; it is needed for {purpose}")

    monkeypatch.setattr(module, "require", missing)
    report, starts, _ = measure({"a": {}}, ("grpc", "http"), rounds=1)
    assert starts == [("a", ["http"])]
    assert [setup.missing.partition(";")[0] for setup in report.setups] == [
        "grpc is not installed", ""
    ]  # fmt: skip


def test_nothing_measured_is_the_first_error(measure):
    with pytest.raises(MissingExtra, match="no server"):
        measure({"none": MissingExtra("no server"), "other": ServiceFailed("no start")})


def test_wrong_options_are_errors_before_anything_starts(measure):
    with pytest.raises(InvalidConfig, match="--rounds must be 1 or more, not 0"):
        measure({"a": ServiceFailed("started")}, rounds=0)
    with pytest.raises(InvalidConfig, match="--point-s"):
        measure({"a": ServiceFailed("started")}, point_s=-1.0)
