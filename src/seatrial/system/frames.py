"""Local variables that a traceback keeps: of each function that an error went through."""

from __future__ import annotations

import traceback


def release_frames(error: BaseException | None) -> None:
    """Let go of what the functions hold that an error and its causes came from.

    An error holds its traceback, and that the images and bodies which these functions worked on.
    Where one of them also holds a future with the error, this is a circle that only a collection
    of garbage ends: with bodies of megabytes, long after the memory is used up. The text of the
    traceback stays.

    Args:
        error: The error; functions that still run are left as they are.
    """
    seen: set[int] = set()
    found = [error]
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        found += [one.__cause__, one.__context__]
