"""The load generator watched by itself: did it send what was due, when it was due?"""

from __future__ import annotations

import msgspec
import numpy as np

from seatrial.load.timeline import VOID_LATE, VOID_STEAL, Timeline
from seatrial.load.window import Recording

# A window is void if more than this share of its slices is; one alone voids no window of several.
VOID_SLICES = 0.10


class GeneratorCheck(msgspec.Struct, frozen=True):
    """How well an open loop was generated.

    Attributes:
        offered_per_s: Requests that were due in the window, over its length.
        sent_per_s: Requests that were sent in the window, or no later after it than counts as in
            time, over its length.
        late_p50_ms: Median of the time by which requests were sent late.
        late_p99_ms: Its 99th percentile.
        late_max_ms: Its largest value.
        late_limit_ms: Time from which on a send counted as late.
        late_share: Share of the sends that were late, 0-1.
        void_slices: Number of slices of the timeline that are void.
        void: Why the whole window is void; empty where its figures are the service's.
    """

    offered_per_s: float
    sent_per_s: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    late_limit_ms: float
    late_share: float
    void_slices: int
    void: tuple[str, ...] = ()


def check_generator(recording: Recording, cut: Timeline | None) -> GeneratorCheck | None:
    """Judge the generator of an open loop; None for a closed loop, and where nothing was sent.

    Args:
        recording: The requests.
        cut: The same window in slices.
    """
    sent = [(one.start_ns, one.due_ns) for one in recording.samples if one.due_ns is not None]
    window_s = (recording.close_ns - recording.open_ns) / 1e9
    if not sent or cut is None or window_s <= 0:
        return None
    start, due = np.array(sent, np.int64).T
    late_ms = (start - due) / 1e6
    late_share = float(np.mean(late_ms > cut.late_limit_ms))
    void = [one.void for one in cut.slices if one.void]
    reasons = []
    if late_share > VOID_LATE:
        reasons.append(
            f"{late_share:.1%} of the requests were sent more than {cut.late_limit_ms:.3g} ms late"
        )
    # With few slices one is a large share of them, and may be any.
    if len(void) == len(cut.slices) or len(void) > max(1.0, VOID_SLICES * len(cut.slices)):
        stolen = void.count("steal")
        if stolen:
            reasons.append(
                f"the hypervisor took more than {VOID_STEAL:.0%} of the cores in {stolen} of "
                f"{len(cut.slices)} slices"
            )
        if len(void) > stolen:
            reasons.append(
                f"requests were sent late in {len(void) - stolen} of {len(cut.slices)} slices"
            )
    # What is due at the very end is sent after it.
    sent_in_time = (start < recording.close_ns) | (late_ms <= cut.late_limit_ms)
    p50, p99 = np.quantile(late_ms, [0.5, 0.99], method="inverted_cdf")
    return GeneratorCheck(
        offered_per_s=len(due) / window_s,
        sent_per_s=float(np.count_nonzero(sent_in_time)) / window_s,
        late_p50_ms=float(p50),
        late_p99_ms=float(p99),
        late_max_ms=float(late_ms.max()),
        late_limit_ms=cut.late_limit_ms,
        late_share=late_share,
        void_slices=len(void),
        void=tuple(reasons),
    )
