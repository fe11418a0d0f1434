"""LitServe's own way: a `LitAPI`; see run.py."""

import sys
from typing import Any

import detecting
import litserve
from fastapi import Request


class Peer(litserve.LitAPI):
    """A detector."""

    def setup(self, device: str) -> None:
        """Open the lane of a worker."""
        self._detect = detecting.open_detect()

    # LitServe reads the annotation: with Request it gives the form.
    def decode_request(self, request: Request) -> bytes:
        """The file of the form."""
        data: bytes = request["image"].file.read()
        return data

    def predict(self, image: bytes) -> dict[str, Any]:
        """The boxes of an image."""
        return self._detect(image)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The boxes as they are."""
        return output


if __name__ == "__main__":
    litserve.LitServer(
        Peer(),
        accelerator="cpu",
        workers_per_device=detecting.lanes(),
        timeout=detecting.deadline_s(),
    ).run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
