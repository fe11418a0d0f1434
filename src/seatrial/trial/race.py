"""A race: candidates whose capacity is measured by turns, most of the time on the best two.

Racing (Maron and Moore, Hoeffding races, 1994) drops a candidate when its interval lies below the
leader's; successive halving (Karnin, Koren and Somekh, 2013) gives each round the same time and
half of the candidates. Together: no candidate is dropped on a difference that the measurement does
not show, unless there is no time to show it. Nothing here reads a clock or a service: simulated
candidates race in a test in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

# Part of the whole time that the first round takes, in which all are measured; each round between
# that and the final takes a part of what is left.
FIRST, BETWEEN = 0.30, 0.20
ROOM = 0.7  # most of the time that the first round may take
# Between two with capacities this close, the race ends: either may be chosen.
EQUAL = 0.02


class Capacity(msgspec.Struct, frozen=True):
    """The highest rate that a candidate holds, as far as it was measured.

    Attributes:
        rate_hz: Best estimate, requests per second.
        low_hz: Lower end of its interval.
        high_hz: Upper end of its interval.
        settled: Whether more time would make the interval no narrower than is wanted.
    """

    rate_hz: float
    low_hz: float
    high_hz: float
    settled: bool = False


class RaceResult(msgspec.Struct, frozen=True):
    """The outcome of a race.

    Attributes:
        order: Names of those that were measured, the best first.
        capacities: Name -> capacity.
        spent_s: Name -> time that it was measured for, seconds.
        dropped: Name -> why it was not measured further.
        decided: Whether the first is better than the second beyond noise, or as good.
        raced: Number of those that were measured and could win: the first is the best of so many.
    """

    order: tuple[str, ...]
    capacities: dict[str, Capacity]
    spent_s: dict[str, float]
    dropped: dict[str, str]
    decided: bool
    raced: int = 0


class Race:
    """The candidates that are still in the race, and what is known of each.

    Args:
        names: Candidates, the most promising first.
        measure: Measures a candidate for about so many seconds more, on top of what is known of
            it, and gives its capacity; None where it cannot be served.
        left_s: Time that is left, seconds.
        shortest_s: Time below which a measurement says nothing: a start and a few trials.
        kept: Candidates that are measured in the first round whatever the others are.
        once: Candidates that are measured in the first round alone, to be compared with: they
            cannot win.
        known: Name -> capacity and time, of a race that was cut off.
        on_drop: Called with a name and the reason.
    """

    def __init__(
        self,
        names: Sequence[str],
        measure: Callable[[str, float], Capacity | None],
        left_s: Callable[[], float],
        *,
        shortest_s: float = 10.0,
        kept: Collection[str] = (),
        once: Collection[str] = (),
        known: Mapping[str, tuple[Capacity, float]] | None = None,
        on_drop: Callable[[str, str], object] = lambda name, reason: None,
    ) -> None:
        self._names = list(names)
        self._measure = measure
        self._left_s = left_s
        self._shortest_s = shortest_s
        self._kept, self._once = {*kept, *once}, {*once}
        self._on_drop = on_drop
        self._live: list[str] = []
        past = known or {}
        self.capacities = {name: past[name][0] for name in names if name in past}
        self.spent_s = {name: past[name][1] for name in self.capacities}
        self.dropped: dict[str, str] = {}

    def run(self) -> RaceResult:
        """Measure until the best is known, or the time is over."""
        self._first_round()
        while len(self._live) > 2 and self._left_s() >= self._shortest_s * len(self._live) / 2:
            self._halve()
            if len(self._live) > 2:
                self._round(max(self._shortest_s, BETWEEN * self._left_s() / len(self._live)))
        self._final()
        order = sorted(self.capacities, key=self._place, reverse=True)
        return RaceResult(
            tuple(order),
            self.capacities,
            self.spent_s,
            self.dropped,
            bool(order) and self._decided(),
            len({*order} - self._once),
        )

    def _first_round(self) -> None:
        whole_s = self._left_s()
        seconds = max(self._shortest_s, FIRST * whole_s / max(1, len(self._names)))
        # Those that have to be measured come first: time may be over before the last.
        new = [name for name in self._names if name not in self.capacities]
        for name in sorted(new, key=lambda name: name not in self._kept):
            left_s = self._left_s()
            if {*self.capacities} - self._once and left_s < max(
                (1 - ROOM) * whole_s, self._shortest_s
            ):
                self._drop(name, "no time was left to serve it; others are faster in process")
                continue
            turns = 2 if name in self._once else 1  # it has no second one
            self._take(name, max(self._shortest_s, min(turns * seconds, left_s)))
        self._live = [name for name in self._names if name in self.capacities]
        self._drop_slower()
        self._live = [name for name in self._live if name not in self._once]

    def _round(self, seconds: float) -> None:
        for name in list(self._live):
            if self._left_s() >= self._shortest_s and not self.capacities[name].settled:
                self._take(name, min(seconds, self._left_s()))
        self._drop_slower()

    def _take(self, name: str, seconds: float) -> None:
        before = self._left_s()
        capacity = self._measure(name, seconds)
        self.spent_s[name] = self.spent_s.get(name, 0.0) + before - self._left_s()
        if capacity is None:
            self.capacities.pop(name, None)
            self._drop(name, "it cannot be served")
        else:
            self.capacities[name] = capacity

    def _drop_slower(self) -> None:
        """Drop those whose interval lies below that of the leader."""
        racing = [name for name in self.capacities if name not in self._once]
        if not racing:
            return
        leader = max(racing, key=lambda name: self.capacities[name].low_hz)
        least = self.capacities[leader].low_hz
        for name in list(self._live):
            found = self.capacities.get(name)
            if name != leader and found is not None and found.high_hz < least:
                self._drop(
                    name, f"holds at most {found.high_hz:.3g}/s, and {least:.3g}/s is exceeded"
                )

    def _halve(self) -> None:
        """Keep the better half, two at least."""
        order = sorted(self._live, key=self._worth, reverse=True)
        keep = max(2, math.ceil(len(order) / 2))
        best = self.capacities[order[0]].rate_hz
        for name in order[keep:]:
            rate_hz = self.capacities[name].rate_hz
            self._drop(
                name,
                f"about {rate_hz:.3g}/s against {best:.3g}/s of the best; the time goes to the "
                "better half",
            )

    def _final(self) -> None:
        """Give the time that is left to the best two, by turns, the one that is less known first.

        By turns, since the machine drifts: a slow minute is shared by both.
        """
        while not self._decided() and self._left_s() >= self._shortest_s:
            order = sorted(self._live, key=self._worth, reverse=True)[:2]
            unsettled = [name for name in order if not self.capacities[name].settled]
            if not unsettled:
                return
            name = min(unsettled, key=lambda one: self.spent_s[one])
            turns = max(1, int(self._left_s() // (3 * self._shortest_s)))
            self._take(name, max(self._shortest_s, self._left_s() / min(6, turns)))
            self._live = [one for one in self._live if one in self.capacities]
            if not self._live:
                return

    def _decided(self) -> bool:
        """Whether the best is settled, and better than the next one or as good."""
        order = sorted((n for n in self._live if n in self.capacities), key=self._worth)[::-1]
        if not order:
            return True
        best = self.capacities[order[0]]
        if not best.settled:
            return False
        if len(order) == 1:
            return True
        other = self.capacities[order[1]]
        apart = other.high_hz < best.low_hz
        close = other.settled and other.rate_hz > best.rate_hz * (1 - EQUAL)
        return apart or close

    def _worth(self, name: str) -> float:
        return self.capacities[name].rate_hz if name in self.capacities else 0.0

    def _place(self, name: str) -> tuple[bool, float]:
        return name not in self._once, self._worth(name)

    def _drop(self, name: str, reason: str) -> None:
        if name in self._live:
            self._live.remove(name)
        self.dropped[name] = reason
        self._on_drop(name, reason)
