from __future__ import annotations

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from seatrial.system.file_limit import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "after"), [(64, 200, 200), (200, 200, 200)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int, after: int) -> None:
    program = PROGRAM.format(soft=soft, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(after), str(after), str(hard)]


def test_a_limit_that_may_not_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from seatrial.system.file_limit import raise_file_limit

    def refused(*given: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 4096))
    monkeypatch.setattr(resource, "setrlimit", refused)
    assert raise_file_limit() == 64
