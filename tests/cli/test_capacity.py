from __future__ import annotations

import json
import os

import msgspec
import pytest

from forked_commands import Commands
from seatrial.bench.report import to_json
from seatrial.load.images import load_images
from seatrial.trial.capacity import CapacityPlan
from simulated_machines import server_point, server_report

pytestmark = pytest.mark.slow

CONTRACT = """
[latency]
at_most_ms = 90
percentile = "p90"

[server]
rate_per_s = 20
at_most_ms = 150
"""


@pytest.fixture(scope="module")
def run():
    """Runs ``seatrial capacity WORDS``."""
    with Commands("seatrial.cli.capacity", "scipy.optimize", "rich.table") as commands:
        yield lambda *words: commands.run("capacity", *words, environment=dict(os.environ))


@pytest.fixture
def report(image_folder, tmp_path):
    """The report of a machine of two lanes, saturated at 50/s."""
    images = load_images(image_folder).summary
    made = server_report(images, *(server_point(rate) for rate in (10.0, 30.0, 42.0)))
    made = msgspec.structs.replace(
        made, model={"name": "tiny", "layout": {"workers": 1, "instances": 2}}
    )
    (tmp_path / "report.json").write_bytes(to_json(made))
    return tmp_path / "report.json"


def test_a_plan_by_a_contract_is_printed_and_written(run, report, tmp_path):
    (tmp_path / "contract.toml").write_text(CONTRACT)
    page = tmp_path / "new" / "capacity.html"
    words = ("--rate", "120", "--contract", tmp_path / "contract.toml", "-o", page)
    done = run(report, *words)
    assert done.returncode == 0, done.stderr
    plan = msgspec.json.decode(page.with_suffix(".json").read_bytes(), type=CapacityPlan)
    assert (plan.goal.percentile, plan.goal.at_most_ms) == ("p99", 150.0)
    assert plan.model.lanes == 2
    assert plan.machines_bought == plan.machines + 1
    first, margin = done.stdout.splitlines()[:2]
    assert first == (
        f"{plan.machines} machines hold 120/s (poisson) with p99 at most 150 ms; "
        f"{plan.machines_bought} still do with 1 machine out."
    )
    assert margin.startswith("Margin: all times ")
    assert "closed loop, 1" in done.stdout
    assert first[:-1] in page.read_text()
    assert f"wrote {page}" in done.stderr
    assert plan.conditions.command.startswith("seatrial capacity")


def test_limits_on_the_command_line_go_before_the_contract(run, report, tmp_path):
    (tmp_path / "contract.toml").write_text(CONTRACT.partition("[server]")[0])
    words = ("--rate", "60", "--contract", tmp_path / "contract.toml", "--json")
    options = ("--latency-limit-ms", "200", "--machines-fail", "2", "--balancer", "round-robin")
    own = json.loads(run(report, *words, *options).stdout)
    assert own["goal"] == {
        "rate_hz": 60.0,
        "percentile": "p90",
        "at_most_ms": 200.0,
        "arrivals": "poisson",
        "balancer": "round-robin",
        "machines_fail": 2,
    }
    assert own["machines_bought"] == own["machines"] + 2


def test_a_limit_that_no_number_holds_is_a_verdict(run, report):
    done = run(report, "--rate", "60", "--latency-limit-ms", "20")
    assert done.returncode == 8
    assert "No number of machines holds 60.0/s" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--rate", "60"), "there is no limit to plan for"),
        (("--rate", "0", "--latency-limit-ms", "100"), "the rate must be a number of more than 0"),
        (("--rate", "60", "--latency-limit-ms", "100", "-o", "plan.txt"), "not plan.txt"),
        (("--rate", "60", "--latency-limit-ms", "100", "--lanes", "0"), "the number of lanes is 0"),
        (
            ("--rate", "60", "--latency-limit-ms", "100", "--lanes", "-1"),
            "the number of lanes is -1",
        ),
        (
            ("--rate", "60", "--latency-limit-ms", "100", "--lanes", "1000000000"),
            "the number of lanes is 1000000000",
        ),
        (("--rate", "60", "--latency-limit-ms", "100", "--seed", "-1"), "the seed is -1"),
    ],
    ids=["limit", "rate", "page", "no lanes", "negative", "many", "seed"],
)
def test_what_is_wrong_is_said_before_the_work(run, report, words, told):
    done = run(report, *words)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_file_that_is_not_there_is_told_before_a_limit_that_is_missing(run, report):
    done = run(report.with_name("nope.json"), "--rate", "60")
    assert done.returncode == 2
    assert "nope.json" in done.stderr
    assert "limit" not in done.stderr


def test_a_report_whose_service_says_nonsense_of_its_lanes_is_an_error(run, report):
    made = json.loads(report.read_text())
    made["model"]["layout"] = {"workers": 1_000_000, "instances": 1000}
    report.write_text(json.dumps(made))
    words = ("--rate", "60", "--latency-limit-ms", "100")
    done = run(report, *words)
    assert done.returncode == 2
    assert "has 1000000000 lanes" in done.stderr
    assert run(report, *words, "--lanes", "2").returncode == 0
