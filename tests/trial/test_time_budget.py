"""The budget in words, and the clock over several runs."""

from __future__ import annotations

import pytest

from seatrial.errors import InvalidConfig
from seatrial.trial.time_budget import TimeBudget, read_budget


@pytest.mark.parametrize(
    ("words", "seconds"), [("15m", 900), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("120", 120)]
)
def test_a_budget_in_words(words: str, seconds: float) -> None:
    assert read_budget(words) == seconds


@pytest.mark.parametrize("words", ["", "m", "15 minutes", "m15", "15x", "nan", "inf", "-90", "1d"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(InvalidConfig, match="--budget"):
        read_budget(words)


@pytest.mark.parametrize("words", ["0s", "59s", "200h"])
def test_a_time_without_use_is_refused(words: str) -> None:
    with pytest.raises(InvalidConfig, match="is not between"):
        read_budget(words)


def test_the_time_of_earlier_runs_counts() -> None:
    now = [50.0]
    budget = TimeBudget(100.0, 30.0, lambda: now[0])
    assert (budget.spent_s, budget.left_s(), budget.left_s(20.0)) == (30.0, 70.0, 50.0)
    now[0] = 60.0
    assert budget.prepared_within(5.0)
    assert not budget.prepared_within(5.1)
    now[0] = 200.0
    assert budget.left_s() == 0.0
