"""The words that a service was started with."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

ORIGIN = "SEATRIAL_ORIGIN"  # variable of the environment, as JSON


class Origin(msgspec.Struct, frozen=True):
    """The words that a service was started with: a reload without a model looks there again.

    Attributes:
        folder: Working folder, where relative paths begin.
        deployment: Deployment file.
        model: Model that was named beside it.
    """

    folder: str
    deployment: str | None = None
    model: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Origin | None:
        """The origin in an environment; None where the service was not started by the command."""
        text = environment.get(ORIGIN)
        return msgspec.json.decode(text, type=cls) if text else None
