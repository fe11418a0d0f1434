"""Which process of a run in parallel takes which file: those that need PyTorch go to one of them.

Importing PyTorch, transformers, Ultralytics and what they import takes a process half a minute of
a core, and the checkpoints that tests share are built in each process that needs them.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

# In the text of a test file: the packages, and the fixtures that import them.
NEEDS = re.compile(
    r"\b(torch|transformers|ultralytics|lightning|trainings|checkpoints|snapshots|networks"
    r"|settle_plan)\b"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Files as ``--dist loadfile`` has them, in another order."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByNeeds(LoadFileScheduling):
        """The first process takes what needs PyTorch first, the others take it last."""

        def _assign_work_unit(self, node: Any) -> None:
            first = node is self.nodes[0]
            own = (file for file in self.workqueue if needs_torch(config.rootpath / file) == first)
            if (file := next(own, None)) is not None:
                self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    return ByNeeds(config, log)


@functools.cache
def needs_torch(file: Path) -> bool:
    """Whether a test file names PyTorch, or a fixture that imports it."""
    return bool(NEEDS.search(file.read_text(encoding="utf-8")))
