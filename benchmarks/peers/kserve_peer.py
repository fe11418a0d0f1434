"""KServe's own way: a `Model` in its `ModelServer`; see run.py.

Its binary tensors hold no images (bytes have to be UTF-8), so these come in base64, as in the
example of its documentation.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cached_property
from typing import Any

import detecting
import kserve
import kserve.protocol.rest.server
import numpy as np
import uvicorn
from kserve.utils.utils import generate_uuid


class LocalConfig(uvicorn.Config):
    """Listens on this machine alone: the server itself takes no address."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **{**options, "host": "127.0.0.1"})


kserve.protocol.rest.server.uvicorn.Config = LocalConfig  # type: ignore[misc]


class Peer(kserve.Model):
    """A detector."""

    def __init__(self) -> None:
        super().__init__("peer")
        self.ready = True

    @cached_property
    def _detect(self) -> Callable[[bytes], dict[str, Any]]:
        # At the first request: the first process only looks after the others, which get a copy.
        return detecting.open_detect()

    def __reduce__(self) -> tuple[Any, ...]:
        return Peer, ()

    def predict(self, payload: kserve.InferRequest, *_: object) -> kserve.InferResponse:
        """The boxes of an image."""
        rows = self._detect(base64.b64decode(payload.inputs[0].data[0]))["detections"]
        found = np.array(
            [[*row["box"], row["confidence"], row["class_id"]] for row in rows], np.float32
        )
        boxes = kserve.InferOutput("boxes", [len(rows), 6], "FP32", found.reshape(-1, 6))
        names = [row["label"] for row in rows]
        labels = kserve.InferOutput("labels", [len(rows)], "BYTES", names)
        # The protocol lets a request have no id; KServe sends no answer without one.
        return kserve.InferResponse(payload.id or generate_uuid(), self.name, [boxes, labels])


if __name__ == "__main__":
    # Ports, processes and logs are options of its own, which it reads from the command line.
    kserve.ModelServer().start([Peer()])
