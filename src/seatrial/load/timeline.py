"""A measured window cut into slices: what was sent, what came back, and what the machine did."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.usage import MachineTrace
from seatrial.load.window import Recording

SHORTEST_SLICE_S = 1.0
MOST_SLICES = 120
# A send that is later than this, or than this share of the latency that matters, is late.
LATE_MS, LATE_SHARE = 5.0, 0.10
# From these shares on a slice is void: of its sends that were late, of its cores' time that the
# hypervisor gave to other machines.
VOID_LATE, VOID_STEAL = 0.01, 0.10


class Slice(msgspec.Struct, frozen=True):
    """One slice of a window.

    Attributes:
        due: Requests that were due in it.
        answered: Answers that came in it.
        good: Requests due in it that were answered well, whenever.
        failed: Requests due in it that failed.
        mean_ms: Mean latency of the good ones; None without any.
        p50_ms: Median of the same.
        max_ms: Largest latency of the same.
        in_flight: Mean number of requests under way: the queue, and what is worked on.
        late_ms: Longest time by which a request was sent late; None in a closed loop.
        steal_share: Share of the cores' time that the hypervisor took, 0-1; None: not known.
        rss_bytes: Resident memory of the service at the slice's end; None: not known.
        void: Why the slice says nothing about the service; empty where it does.
    """

    due: int
    answered: int
    good: int
    failed: int
    mean_ms: float | None
    p50_ms: float | None
    max_ms: float | None
    in_flight: float
    late_ms: float | None
    steal_share: float | None
    rss_bytes: int | None
    void: str = ""


class Timeline(msgspec.Struct, frozen=True):
    """The slices of a window, one after the other.

    Attributes:
        slice_s: Length of each, seconds; the last one ends with the window.
        late_limit_ms: Time from which on a send counted as late.
        slices: The slices, in order.
    """

    slice_s: float
    late_limit_ms: float
    slices: tuple[Slice, ...]


def late_limit_ms(latency_ms: float | None) -> float:
    """Time from which on a send is late, by the latency that matters (a limit, or the median)."""
    return max(LATE_MS, LATE_SHARE * (latency_ms or 0.0))


def timeline(
    recording: Recording, trace: MachineTrace, latency_ms: float | None
) -> Timeline | None:
    """Cut a window into at most `MOST_SLICES` slices of whole seconds; None for an empty window.

    Args:
        recording: The requests.
        trace: The machine over the same time.
        latency_ms: Latency by which a late send is judged, see `late_limit_ms`.
    """
    begin, end = recording.open_ns, recording.close_ns
    window_s = (end - begin) / 1e9
    if window_s <= 0 or not recording.samples:
        return None
    slice_s = max(SHORTEST_SLICE_S, float(math.ceil(window_s / MOST_SLICES)))
    edges = np.arange(begin, end, round(slice_s * 1e9), dtype=np.int64)
    if len(edges) > 1 and end - edges[-1] < slice_s * 0.5e9:
        edges = edges[:-1]  # a stump joins the slice before it
    edges = np.append(edges, end)
    limit_ms = late_limit_ms(latency_ms)
    table = _Table(recording, edges, trace)
    slices = tuple(table.slice(n, limit_ms) for n in range(len(edges) - 1))
    return Timeline(slice_s, limit_ms, slices)


class _Table:
    """Requests as columns, with the slice of each."""

    def __init__(self, recording: Recording, edges: NDArray[np.int64], trace: MachineTrace) -> None:
        samples = [*recording.samples, *recording.stragglers]
        counted = len(recording.samples)
        self._edges, self._trace = edges, trace
        self._start = np.array([one.start_ns for one in samples], np.int64)
        self._end = np.array([one.end_ns for one in samples], np.int64)
        due = [one.start_ns if one.due_ns is None else one.due_ns for one in samples]
        self._due = np.array(due, np.int64)
        self._open = any(one.due_ns is not None for one in samples)
        self._bad = np.array([bool(one.error) for one in samples])
        self._answered = np.array([bool(one.status) for one in samples])
        # A closed loop counts what ends in the window, an open one what is due in it.
        at = self._due if self._open else self._end
        self._slice = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
        self._slice[counted:] = -1

    def slice(self, number: int, limit_ms: float) -> Slice:
        """One slice."""
        begin, end = int(self._edges[number]), int(self._edges[number + 1])
        here = self._slice == number
        good = here & ~self._bad
        latency_ms = (self._end[good] - self._due[good]) / 1e6
        inside = np.minimum(self._end, end) - np.maximum(self._due, begin)
        late_ms = (self._start[here] - self._due[here]) / 1e6 if self._open else np.empty(0)
        steal = self._trace.steal_share(begin, end)
        return Slice(
            due=int(np.count_nonzero((self._due >= begin) & (self._due < end))),
            answered=int(
                np.count_nonzero(self._answered & (self._end >= begin) & (self._end < end))
            ),
            good=int(np.count_nonzero(good)),
            failed=int(np.count_nonzero(here & self._bad)),
            mean_ms=float(latency_ms.mean()) if latency_ms.size else None,
            p50_ms=float(np.median(latency_ms)) if latency_ms.size else None,
            max_ms=float(latency_ms.max()) if latency_ms.size else None,
            in_flight=float(inside[inside > 0].sum()) / (end - begin),
            late_ms=float(late_ms.max()) if late_ms.size else None,
            steal_share=steal,
            rss_bytes=self._trace.rss_at(end),
            void=_void(late_ms, limit_ms, steal),
        )


def _void(late_ms: NDArray[np.float64], limit_ms: float, steal: float | None) -> str:
    if late_ms.size and np.count_nonzero(late_ms > limit_ms) > VOID_LATE * late_ms.size:
        return "late"
    return "steal" if steal is not None and steal > VOID_STEAL else ""


def values(slices: Sequence[Slice], name: str) -> list[float]:
    """A column of the slices, without those that are void or have no value."""
    found = (getattr(one, name) for one in slices if not one.void)
    return [float(value) for value in found if value is not None]
