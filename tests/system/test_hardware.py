"""What this process may use, from a control group tree of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seatrial.system import hardware
from seatrial.system.hardware import cgroup_quota_cores, cpu, usable_cores


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({}, "/", None),
        ({"cpu.max": "max 100000\n"}, "/", None),
        ({"cpu.max": "200000 100000\n"}, "/", 2.0),
        ({"cpu.max": "150000 100000\n"}, "/", 1.5),
        ({"cpu.max": "25000 50000\n"}, "/", 0.5),
        ({"pod/cpu.max": "300000 100000"}, "/pod", 3.0),
        # A parent's limit binds too, whichever is less.
        ({"pod/cpu.max": "400000 100000", "pod/app/cpu.max": "max 100000"}, "/pod/app", 4.0),
        ({"pod/cpu.max": "400000 100000", "pod/app/cpu.max": "100000 100000"}, "/pod/app", 1.0),
        ({"pod/cpu.max": "100000 100000", "pod/app/cpu.max": "400000 100000"}, "/pod/app", 1.0),
        # Another group's limit does not.
        ({"other/cpu.max": "100000 100000"}, "/pod/app", None),
        ({"cpu.max": "nonsense"}, "/", None),
        # Version 1.
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "/", 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "/", None),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "/",
            0.5,
        ),
    ],
)
def test_quota_of_the_control_group(
    tmp_path: Path, files: dict[str, str], own: str, cores: float | None
) -> None:
    write(tmp_path, files)
    assert cgroup_quota_cores(tmp_path, Path(own)) == cores


def test_a_group_that_points_out_of_the_tree_is_read_from_the_root(tmp_path: Path) -> None:
    write(tmp_path, {"tree/cpu.max": "200000 100000"})
    # As /proc/self/cgroup shows it inside a container without a namespace of its own.
    assert cgroup_quota_cores(tmp_path / "tree", Path("/../../outside")) in (None, 2.0)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 4), (8.0, 4), (4.0, 4), (2.9, 2), (1.5, 1), (0.5, 1)]
)
def test_usable_cores_are_the_lesser_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5})
    monkeypatch.setattr(hardware, "cgroup_quota_cores", lambda: quota)
    assert usable_cores() == cores


def test_affinity_of_this_process_counts() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_processor_is_described() -> None:
    described = cpu()
    assert described.model
    assert 1 <= described.cores <= described.cores_online
    assert set(described.features) <= set(hardware.FEATURES)


def test_memory_of_the_machine() -> None:
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert hardware.memory_total_bytes() == pytest.approx(total_kib * 1024, rel=0.01)
