"""Addresses of hubs, as people set them."""

from __future__ import annotations

import msgspec
import pytest

from seatrial.errors import InvalidConfig
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Hub, endpoint


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("https://hf-mirror.com/", "https://hf-mirror.com"),
        ("hf-mirror.com", "https://hf-mirror.com"),
        (" http://127.0.0.1:8000/hub ", "http://127.0.0.1:8000/hub"),
        ("HTTPS://huggingface.co", "HTTPS://huggingface.co"),
    ],
)
def test_addresses_of_mirrors(value: str, address: str) -> None:
    assert endpoint(value, setting="HF_ENDPOINT") == address


@pytest.mark.parametrize("value", ["ftp://x", "https://", "file:///tmp", "http://x?y=1", "/"])
def test_what_is_no_address(value: str) -> None:
    with pytest.raises(InvalidConfig, match="HF_ENDPOINT"):
        endpoint(value, setting="HF_ENDPOINT")


@pytest.mark.parametrize("hub", [HUGGINGFACE, MODELSCOPE])
def test_a_token_is_not_printed(hub: Hub) -> None:
    assert "hf_secret" not in repr(msgspec.structs.replace(hub, token="hf_secret"))
