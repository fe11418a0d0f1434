"""The limit of open files of this process: each connection is one."""

from __future__ import annotations

import contextlib
import resource

MOST = 2**20


def raise_file_limit() -> int:
    """Raise the soft limit to the hard one, as far as is allowed; gives what it is then.

    The soft limit is 1024 on most machines, for programs that use select(): 500 requests a second
    to a service that takes two seconds are as many connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft < wanted:
        # Where it is not allowed a load goes on with what there is, until that is used up.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft
