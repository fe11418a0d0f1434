"""The JSON of ``GET /model`` has the form that is documented, or the service does not start."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.serve.description import checked


def test_a_key_that_is_not_described_is_an_error(running: Any) -> None:
    told: dict[str, Any] = running.client.get("/model").json()
    assert checked(told) == told
    with pytest.raises(msgspec.ValidationError, match="unknown field `more`"):
        checked({**told, "more": 1})
    with pytest.raises(msgspec.ValidationError, match="required field `digest`"):
        checked({key: value for key, value in told.items() if key != "digest"})
