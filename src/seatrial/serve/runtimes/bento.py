"""The service that ``service.py`` of a service folder names.

In a server process that our supervisor started it needs no BentoML, whose import takes longer than
that of all else; see docs/decisions/0030.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seatrial.serve.runtimes.served import Served, own_worker

if TYPE_CHECKING:
    from seatrial.serve.runtimes.bento_service import DirectService


def service(deployment_file: Path) -> Served | DirectService:
    """The service of a deployment file; ``service.py`` of a service folder calls this.

    Nothing is compiled here: BentoML's supervisor imports the service too.

    Args:
        deployment_file: TOML file; a relative model path in it starts at the file's folder.

    Raises:
        InvalidConfig: The deployment is not valid.
    """
    if worker := own_worker():
        return Served(deployment_file, worker.index, worker.failed_starts)
    from seatrial.serve.runtimes.bento_service import direct_service

    return direct_service(deployment_file)
