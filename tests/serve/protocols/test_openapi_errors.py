"""Every status of every error of ours is described, and refers to an answer that is there."""

from __future__ import annotations

import pytest

from seatrial.client.wire import CODES
from seatrial.errors import NotSwapped
from seatrial.serve.protocols.openapi_errors import (
    COMMON,
    ERRORS,
    error_components,
    error_responses,
)


def test_each_status_of_an_error_has_its_text() -> None:
    # A client makes those of 502 itself, and only the administrator's port swaps models.
    told = {
        kind.http_status
        for kind in CODES.values()
        if kind.http_status != 502 and kind is not NotSwapped
    }
    assert told <= set(ERRORS)
    assert set(COMMON) <= set(ERRORS)


@pytest.mark.parametrize("protocol", [False, True])
def test_references_lead_somewhere(protocol: bool) -> None:
    components = error_components()
    for status, reference in error_responses(tuple(ERRORS), protocol=protocol).items():
        name = reference["$ref"].rpartition("/")[2]
        assert name.endswith(status)
        example = components[name]["content"]["application/json"]["example"]["error"]
        assert isinstance(example, str) == protocol
