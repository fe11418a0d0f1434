"""Contracts: the limits that a service must hold, as a TOML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from seatrial.config import Fraction, read_toml
from seatrial.errors import InvalidConfig


class AccuracyClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Least accuracy on labelled images, by COCO's rules.

    Attributes:
        ap: Least average precision, mean over IoU 0.50 to 0.95 and categories, 0-1.
        ap50: Least average precision at IoU 0.50.
        ar100: Least recall with 100 detections an image, mean over IoU 0.50 to 0.95.
        max_drop_ap: Largest loss of `ap` against the float32 graph of the model at its own size, on
            the same images; `seatrial trial` measures it.
    """

    ap: Fraction | None = None
    ap50: Fraction | None = None
    ar100: Fraction | None = None
    max_drop_ap: Fraction | None = None


class LatencyClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Longest latency of a lone request: MLPerf's single stream, one request at a time.

    Attributes:
        at_most_ms: Largest upper bound of the percentile at 99 % confidence.
        percentile: Percentile of latency that is judged.
    """

    at_most_ms: Annotated[float, msgspec.Meta(gt=0, le=86_400_000)]
    percentile: Literal["p50", "p90", "p95", "p99"] = "p90"


class LoadClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that the service must hold under several sessions (closed loop).

    Attributes:
        goodput_per_s: Least goodput at the best number of sessions.
        error_rate: Largest share of failed requests at any point of the load, 0-1.
        memory_mib: Largest resident memory of all of the service's processes.
    """

    goodput_per_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    error_rate: Fraction = 0.0
    memory_mib: Annotated[float, msgspec.Meta(gt=0, le=2**30)] | None = None


class ServerClause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency that must hold while requests arrive at a rate: MLPerf's server scenario, open loop.

    Latency counts from the time at which a request is due. Failures and refusals are late.

    Attributes:
        rate_per_s: Rate of arrivals that the service must hold, requests per second.
        at_most_ms: Largest latency at the percentile.
        percentile: Percentile of latency that is judged.
        arrivals: Arrival law: of many independent senders (poisson), of one clock (constant), or
            twice the rate in every other second (bursts).
    """

    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    at_most_ms: Annotated[float, msgspec.Meta(gt=0, le=86_400_000)]
    percentile: Literal["p50", "p90", "p95", "p99"] = "p99"
    arrivals: Literal["poisson", "constant", "bursts"] = "poisson"


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that a service must hold. A table that is left out sets no condition.

    Attributes:
        name: Name of the contract, in the verdict.
        accuracy: Limits of accuracy on labelled images.
        latency: Limits of a lone request.
        load: Limits under concurrent sessions.
        server: Limits under arrivals at a rate.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)] = "the contract"
    accuracy: AccuracyClause | None = None
    latency: LatencyClause | None = None
    load: LoadClause | None = None
    server: ServerClause | None = None

    @classmethod
    def read(cls, path: Path, *, judged: Sequence[str] = ()) -> Contract:
        """Read a TOML file.

        Args:
            path: The file.
            judged: Tables of which one at least must set a condition: those that the caller judges.

        Raises:
            InvalidConfig: The file cannot be read, a key or a value is wrong, or there is nothing
                to judge.
        """
        contract = read_toml(path, cls)
        if judged and not any(map(contract.judges, judged)):
            raise InvalidConfig(
                f"{path} sets no condition in {' or '.join(f'[{name}]' for name in judged)}: there "
                "is nothing to judge",
                hint="add a limit to one of these tables",
            )
        return contract

    def judges(self, table: str) -> bool:
        """Whether a table (``accuracy``, ``latency``, ``load``, ``server``) sets a condition."""
        clause = getattr(self, table)
        return clause is not None and any(x is not None for x in msgspec.structs.astuple(clause))
