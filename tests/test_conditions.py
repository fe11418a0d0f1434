"""The conditions of a report: complete, and as words."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import msgspec

from seatrial.conditions import condition_rows, conditions
from seatrial.system import hardware


def test_they_are_those_of_now_and_here() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = conditions("seatrial bench --url x", "numpy", "not-installed")
    assert before <= datetime.fromisoformat(made.created_at) <= datetime.now(UTC)
    assert made.versions.keys() == {"python", "seatrial", "numpy"}
    assert made.cpu == hardware.cpu()
    assert made.memory_bytes > 2**20


def test_rows_have_the_date_the_command_the_machine_and_the_versions() -> None:
    made = msgspec.structs.replace(conditions("a b"), created_at="2026-11-29T12:01:30+00:00")
    rows = dict(condition_rows(made))
    assert rows["made"] == "2026-11-29 12:01 UTC"
    assert rows["made by"] == "a b"
    assert f"python {platform.python_version()}" in rows["versions"]
    assert {"processor", "cores", "memory", "system", "load before"} <= rows.keys()
    quota = msgspec.structs.replace(made.cpu, cores=1, cores_online=8, quota_cores=1.5)
    rows = dict(condition_rows(msgspec.structs.replace(made, cpu=quota, command="")))
    assert rows["cores"] == "1 usable of 8, quota 1.5"
    assert "made by" not in rows
    assert list(condition_rows(None)) == []
