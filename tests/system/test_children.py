"""Child processes: the end of one, or of its process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from child_processes import gone, running
from seatrial.system.children import end, has_ended, runs, same_code

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


def test_a_process_runs_is_stopped_or_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert (runs(child.pid), has_ended(child.pid)) == (True, False)
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert (runs(child.pid), has_ended(child.pid)) == (False, False)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert (runs(child.pid), has_ended(child.pid)) == (False, True)
    assert (runs(child.pid), has_ended(child.pid)) == (False, True)


# The process leaves an orphan behind; one that a thread starts is killed, and the thread sees it.
FIRST = """
import os, subprocess, threading, time
from seatrial.system.children import adopt
adopt()
codes = []
def start():
    codes.append(subprocess.run(["sh", "-c", "sleep 0.2; kill -9 $$"]).returncode)
thread = threading.Thread(target=start)
thread.start()
os.system("(sleep 0.1 &)")
thread.join()
give_up = time.monotonic() + 30
while (left := [one for one in os.listdir("/proc") if one.isdigit() and one != "1"]):
    assert time.monotonic() < give_up, left
    time.sleep(0.01)
print(os.getpid(), codes)
"""


def test_the_first_process_of_a_container_waits_for_orphans_alone() -> None:
    """What a thread started is its own: how that ended has to reach it."""
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process namespace needs the rights of root")
    done = subprocess.run(
        [*words, sys.executable, "-c", FIRST], capture_output=True, text=True, check=False
    )
    assert done.stdout == "1 [-9]\n", done.stderr


def test_a_command_has_the_import_path_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("/it's a folder")
    command = same_code("print(sys.path)")
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == f"{sys.path}\n"
