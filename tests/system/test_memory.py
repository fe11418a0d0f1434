"""What memory this process may use, and that large blocks go back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.system import memory
from seatrial.system.hardware import usable_cores
from seatrial.system.memory import (
    TUNABLES,
    heap_environment,
    memory_left_bytes,
    memory_limit_bytes,
)

MACHINE = 2**40


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "membership", "limit"),
    [
        ({}, "0::/\n", MACHINE),
        ({"memory.max": "max\n"}, "0::/\n", MACHINE),
        ({"memory.max": "2147483648\n"}, "0::/\n", 2**31),
        ({"memory.max": "2147483648\n"}, "", 2**31),  # no /proc
        ({"pod/memory.max": "1000", "pod/app/memory.max": "max"}, "0::/pod/app\n", 1000),
        ({"pod/memory.max": "1000", "pod/app/memory.max": "500"}, "0::/pod/app\n", 500),
        ({"other/memory.max": "1000"}, "0::/pod\n", MACHINE),
        ({"memory.max": "nonsense"}, "0::/\n", MACHINE),
        # Version 1: without a limit the kernel shows a number near 2**63.
        ({"memory/memory.limit_in_bytes": "3000"}, "4:memory:/\n0::/\n", 3000),
        ({"memory/memory.limit_in_bytes": str(2**63 - 4096)}, "4:memory:/\n", MACHINE),
        ({"memory/pod/memory.limit_in_bytes": "7"}, "4:cpu,memory:/pod\n0::/\n", 7),
        # A container sees its own group at the root, whatever the path says.
        ({"memory/memory.limit_in_bytes": "9"}, "4:memory:/docker/abc\n", 9),
    ],
)
def test_limit_of_the_control_group(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    membership: str,
    limit: int,
) -> None:
    monkeypatch.setattr(memory, "memory_total_bytes", lambda: MACHINE)
    write(tmp_path, files)
    assert memory_limit_bytes(tmp_path, membership) == limit


def test_processes_share_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: MACHINE)
    alone = memory_left_bytes()
    assert 0 < MACHINE - alone < 2**36
    assert abs(memory_left_bytes(4) - (alone - MACHINE * 3 // 4)) < 2**28
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 4096)
    assert memory_left_bytes() == 0


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_limit_of_the_address_space_counts() -> None:
    left = python(
        "import resource; from seatrial.system.memory import memory_left_bytes\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**24,) * 2)\n"
        "print(memory_left_bytes())"
    )
    assert 2**22 < int(left) <= 2**24


GIVEN_BACK = """
import sys, threading
from pathlib import Path
from seatrial.system.memory import keep_little_memory

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def images():
    for _ in range(3):
        blocks, pins = [], []
        for number in range(20):
            blocks.append(bytearray(b"x") * 2**24)
            pins.append(bytearray(100_000))  # above it in the heap
        del blocks
        kept.append(pins)

kept = []
before = rss()
if sys.argv[1:] == ["back"]:
    assert keep_little_memory()
thread = threading.Thread(target=images)
thread.start()
thread.join()
print((rss() - before) // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_large_blocks_go_back_to_the_kernel(tmp_path: Path) -> None:
    program = tmp_path / "images.py"
    program.write_text(GIVEN_BACK)
    kept_mib = [
        int(subprocess.run([sys.executable, str(program), *given], check=True,
                           capture_output=True, text=True).stdout)
        for given in ([], ["back"])
    ]  # fmt: skip
    assert kept_mib[0] > 100  # what glibc keeps by itself: the test would see it
    assert kept_mib[1] < 32


HEAPS = """
import ctypes, os, sys, threading
from pathlib import Path
from seatrial.system.memory import keep_little_memory

if sys.argv[2:] == ["few"]:
    assert keep_little_memory(os.environ)
all_there = threading.Barrier(16)

def work():
    block = bytearray(100_000)
    all_there.wait()

threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(Path(sys.argv[1]).read_text().count("<heap nr="))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_threads_share_few_heaps(tmp_path: Path) -> None:
    program = tmp_path / "heaps.py"
    program.write_text(HEAPS)

    def heaps(*given: str, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, str(program), str(tmp_path / "info"), *given],
            check=True, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        return int(done.stdout)

    few = 1 + usable_cores() // 8
    own = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    assert heaps(**own) > few or few >= 16  # what glibc has by itself: the test would see it
    assert heaps("few", **own) <= few
    assert heaps(**heap_environment(own)) <= few
    assert heaps("few", **heap_environment({**own, "MALLOC_ARENA_MAX": "1"})) == 1


THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE_PAGES = """
from pathlib import Path

block = bytearray(64 * 2**20)
flags = [line.split() for line in Path("/proc/self/smaps").read_text().splitlines()]
print(sum("hg" in words for words in flags if words[0] == "VmFlags:"))
"""


BY_ASKING = THP.is_file() and "[madvise]" in THP.read_text()
ASKS = platform.libc_ver() >= ("glibc", "2.35")


@pytest.mark.skipif(
    not (BY_ASKING and ASKS),
    reason="the kernel gives large pages to all or to none, or the C library does not ask",
)
def test_heaps_are_of_large_pages_where_the_kernel_gives_them_to_who_asks() -> None:
    def asked(**environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", LARGE_PAGES], check=True, capture_output=True, text=True,
            env=environment,
        )  # fmt: skip
        return int(done.stdout)

    own = {key: value for key, value in os.environ.items() if key != TUNABLES}
    assert asked(**own) == 0
    assert asked(**heap_environment(own)) >= 1
    assert heap_environment({TUNABLES: "glibc.malloc.check=0"})[TUNABLES] == "glibc.malloc.check=0"
