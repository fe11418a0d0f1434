from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause
from seatrial.errors import InvalidConfig

WHOLE = """
name = "gate camera"
[accuracy]
ap = 0.42
ap50 = 0.6
ar100 = 0.55
[latency]
percentile = "p99"
at_most_ms = 60
[load]
goodput_per_s = 20
error_rate = 0.01
memory_mib = 800
"""


def read(tmp_path: Path, text: str) -> Contract:
    (tmp_path / "contract.toml").write_text(text)
    return Contract.read(tmp_path / "contract.toml")


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == Contract(
        name="gate camera",
        accuracy=AccuracyClause(ap=0.42, ap50=0.6, ar100=0.55),
        latency=LatencyClause(at_most_ms=60.0, percentile="p99"),
        load=LoadClause(goodput_per_s=20.0, error_rate=0.01, memory_mib=800.0),
    )


def test_what_is_left_out_asks_for_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Contract("the contract", None, None, None)
    found = read(tmp_path, "[latency]\nat_most_ms = 60\n[load]\n[accuracy]\n")
    assert found.latency == LatencyClause(60.0, "p90")
    assert found.load == LoadClause(goodput_per_s=None, error_rate=0.0, memory_mib=None)
    assert found.accuracy == AccuracyClause(ap=None, ap50=None, ar100=None)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("nam = 'x'", "nam", "name"),
        ("[latencies]\nat_most_ms = 60", "latencies", "latency"),
        ("[latency]\nat_most_ms = 60\nat_most = 60", "latency.at_most", "at_most_ms"),
        ("[load]\ngoodput = 20", "load.goodput", "goodput_per_s"),
        ("[load]\nerrors_rate = 0.1", "load.errors_rate", "error_rate"),
        ("[accuracy]\nap5 = 0.5", "accuracy.ap5", "ap50"),
        ("[accuracy]\nar = 0.5", "accuracy.ar", "ar100"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tmp_path: Path, text: str, key: str, nearest: str
) -> None:
    with pytest.raises(InvalidConfig, match=f"unknown key '{key}'") as caught:
        read(tmp_path, text)
    assert caught.value.hint == f"did you mean {nearest!r}?"


@pytest.mark.parametrize(
    "text",
    [
        "[accuracy]\nap = 1.1",
        "[accuracy]\nap50 = -0.1",
        "[latency]\nat_most_ms = 0",
        "[latency]\npercentile = 'p99'",
        "[latency]\nat_most_ms = 60\npercentile = 'p98'",
        "[load]\ngoodput_per_s = -1",
        "[load]\nerror_rate = 1.5",
        "[load]\nmemory_mib = 0",
        "[latency]\nat_most_ms = inf",
        "[load]\ngoodput_per_s = inf",
        "[load]\nmemory_mib = inf",
        "name = ''",
        "load = 3",
    ],
)
def test_a_value_out_of_its_range_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidConfig):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "judged", "sets"),
    [
        ("", ["accuracy"], False),
        ("[accuracy]", ["accuracy"], False),
        ("[accuracy]\nap = 0.0", ["accuracy"], True),
        ("[latency]\nat_most_ms = 9", ["accuracy"], False),
        ("[latency]\nat_most_ms = 9", ["latency", "load"], True),
        ("[load]", ["latency", "load"], True),  # no request may fail
        ("[accuracy]\nap = 0.4", ["latency", "load"], False),
        ("", [], True),
    ],
)
def test_a_contract_without_a_condition_for_what_is_judged_is_refused(
    tmp_path: Path, text: str, judged: list[str], sets: bool
) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(text)
    if sets:
        Contract.read(path, judged=judged)
        return
    with pytest.raises(InvalidConfig, match=r"there is nothing to judge") as refusal:
        Contract.read(path, judged=judged)
    assert " or ".join(f"[{name}]" for name in judged) in refusal.value.message


def test_a_contract_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        Contract.read(tmp_path / "none.toml")
