"""Child processes: the end of one, or of its process group."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

from child_processes import gone, running
from seatrial.system.children import end

# Says that it is ready and ignores SIGTERM, or not; with a child in its group.
STUBBORN = """
import signal, subprocess, sys
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_process_that_obeys_ends_by_sigterm() -> None:
    with running(STUBBORN, "obeys") as (process, (child,)):
        end(process, grace_s=60)
        assert process.returncode == -signal.SIGTERM
        assert psutil.pid_exists(child)  # only a group is ended whole


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with running(STUBBORN, "stubborn") as (process, _):
        end(process, grace_s=0.1)
        assert process.returncode == -signal.SIGKILL


def test_a_group_is_ended_whole_even_where_its_leader_has_ended() -> None:
    with running(STUBBORN, "obeys") as (process, (child,)):
        process.kill()
        process.wait()
        end(process, grace_s=60, group=True)
        assert gone(child)


def test_a_process_that_has_ended_is_left_as_it_is() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
        end(process, grace_s=0)
        end(process, grace_s=0, group=True)
        assert process.returncode == 3
