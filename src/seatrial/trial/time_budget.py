"""The time of a trial: how much is left for each part, over all its runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

from seatrial.errors import InvalidConfig

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
SHORTEST_S = 60.0
# Parts of the budget by whose end the preparation (export, INT8, accuracy, raw speed) stops.
PREPARED_BY = 0.45
# For the verdict and the files, seconds; and the longest part that the confirmation takes.
VERDICT_S, LONGEST_CONFIRMATION = 3.0, 0.2
# Part of the budget that is kept to measure the capacity of the choice anew.
ANEW = 0.15


def read_budget(words: str) -> float:
    """Seconds of ``15m``, ``90s``, ``1h`` or ``1h30m``; a number alone is seconds.

    Raises:
        InvalidConfig: It is no time, or too short for a trial.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", words)
    if "".join(number + unit for number, unit in parts) == words.strip() and parts:
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    else:
        try:
            seconds = float(words)
        except ValueError:
            raise InvalidConfig(
                f"--budget {words!r} cannot be read as a time", hint="for example 15m, 90s or 1h30m"
            ) from None
    if not SHORTEST_S <= seconds <= 7 * 86_400:
        raise InvalidConfig(
            f"--budget {words} is not between {SHORTEST_S:g} s and 7 days",
            hint="services have to be started and measured: 15m is a good beginning",
        )
    return seconds


class TimeBudget:
    """The clock of a trial.

    Args:
        whole_s: Budget, seconds.
        spent_s: Time that earlier runs of the same trial took: it counts.
        now: Clock, seconds.
    """

    def __init__(
        self, whole_s: float, spent_s: float = 0.0, now: Callable[[], float] = monotonic
    ) -> None:
        self.whole_s = whole_s
        self._now = now
        self._begun = now() - spent_s

    @property
    def spent_s(self) -> float:
        """Time since the begin, seconds."""
        return self._now() - self._begun

    def left_s(self, before_s: float = 0.0) -> float:
        """Time until so many seconds before the end; 0 where that is over."""
        return max(0.0, self.whole_s - before_s - self.spent_s)

    def prepared_within(self, seconds: float) -> bool:
        """Whether a step of the preparation that takes so long ends in its part of the budget."""
        return self.spent_s + seconds <= PREPARED_BY * self.whole_s
