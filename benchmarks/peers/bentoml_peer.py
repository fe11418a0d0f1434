"""BentoML's own way: a service with ``@bentoml.api``; see run.py."""

from pathlib import Path
from typing import Any

import bentoml
import detecting


@bentoml.service(workers=detecting.lanes(), traffic={"timeout": detecting.deadline_s()})
class Peer:
    """A detector."""

    def __init__(self) -> None:
        self._detect = detecting.open_detect()

    @bentoml.api
    def detect(self, image: Path) -> dict[str, Any]:
        """The boxes of an image."""
        return self._detect(image.read_bytes())
