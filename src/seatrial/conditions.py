"""The conditions that a report was made under: when, by which command, where, with what."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from seatrial.report.numbers import cores, date, mebibytes
from seatrial.system import hardware
from seatrial.system.versions import versions

PACKAGES = (
    "numpy", "onnxruntime", "openvino", "torch", "opencv-python-headless", "simplejpeg", "pillow",
)  # fmt: skip


class Conditions(msgspec.Struct, frozen=True):
    """When, by which command and on which machine a report was made.

    Attributes:
        created_at: Begin of the work, UTC, ISO 8601.
        command: Command that made the report; empty where a program did.
        system: Operating system.
        cpu: Processor, and the part of it that was usable.
        memory_bytes: Memory of the machine.
        load_1min: Load average before the work.
        versions: Versions of Python, of Seatrial and of the libraries.
    """

    created_at: str
    command: str
    system: str
    cpu: hardware.Cpu
    memory_bytes: int
    load_1min: float
    versions: dict[str, str]


def conditions(command: str = "", *packages: str) -> Conditions:
    """The conditions here and now; called before the work begins.

    Args:
        command: Command that makes the report.
        packages: Packages whose versions matter [default: `PACKAGES`].
    """
    return Conditions(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        system=platform.platform(),
        cpu=hardware.cpu(),
        memory_bytes=hardware.memory_total_bytes(),
        load_1min=os.getloadavg()[0],
        versions={"python": platform.python_version(), **versions(*(packages or PACKAGES))},
    )


def condition_rows(made: Conditions | None) -> Iterator[tuple[str, str]]:
    """Names and values for a page; none for a report of a version that did not write them."""
    if made is None:
        return
    cpu = made.cpu
    quota = "" if cpu.quota_cores is None else f", quota {cpu.quota_cores:g}"
    yield "made", date(made.created_at)
    if made.command:
        yield "made by", made.command
    yield "processor", cpu.model
    yield "cores", f"{cpu.cores} usable of {cpu.cores_online}{quota}"
    yield "instructions", ", ".join(cpu.features) or "none of those that engines look for"
    yield "memory", mebibytes(made.memory_bytes)
    yield "system", made.system
    yield "load before", f"{cores(made.load_1min)}, average of a minute"
    yield "versions", ", ".join(f"{name} {version}" for name, version in made.versions.items())
