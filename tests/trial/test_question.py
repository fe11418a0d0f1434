"""The question of a trial, and what makes it another one."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from seatrial.contract import AccuracyClause, Contract, ServerClause
from seatrial.errors import InvalidConfig
from seatrial.system.hardware import Cpu
from seatrial.trial.question import TrialPlan, check_contract
from simulated_trial import IMAGES, MACHINE, NANO

PLAN = TrialPlan(
    Contract("street", server=ServerClause(20.0, 200.0)), (NANO,), MACHINE, IMAGES, "labels", 900.0
)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"contract": Contract("street", server=ServerClause(30.0, 200.0))}, "contract"),
        ({"subjects": ()}, "models"),
        ({"machine": msgspec.structs.replace(MACHINE, cores=3)}, "machine"),
        (
            {"machine": msgspec.structs.replace(MACHINE, cpu=Cpu("other", 2, 2, None, ()))},
            "machine",
        ),
        ({"machine": msgspec.structs.replace(MACHINE, memory_gib=9)}, "machine"),
        ({"machine": msgspec.structs.replace(MACHINE, versions={"openvino": "9"})}, "machine"),
        ({"labels_digest": "others"}, "labels"),
        ({"calibration_digest": "c" * 64}, "calibration images"),
    ],
)
def test_what_the_measurements_depend_on_is_in_the_key(
    change: dict[str, object], part: str
) -> None:
    other = replace(PLAN, **change)  # type: ignore[arg-type]
    assert other.key != PLAN.key
    assert [name for name, digest in other.parts.items() if digest != PLAN.parts[name]] == [part]


def test_more_time_is_the_same_question() -> None:
    assert replace(PLAN, budget_s=1800.0).key == PLAN.key


def test_a_contract_without_a_rate_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="has no table"):
        check_contract(Contract("any", accuracy=AccuracyClause(ap=0.1)))
