"""Which hubs there are, where they listen, and the settings that name another address."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from seatrial.errors import InvalidConfig

Source = Literal["huggingface", "modelscope"]


class Hub(msgspec.Struct, frozen=True):
    """Address and credentials of one hub, and the names of the settings they come from.

    Attributes:
        source: Name in a reference, before the colon.
        title: Name in messages.
        endpoint: Scheme, host and, for some mirrors, a path; no slash at the end.
        mirror_setting: Environment variable that names another endpoint.
        token_setting: Environment variable that holds the token.
        token: Sent to the endpoint alone; empty for none.
        offline_setting: Environment variable that is set and forbids the network; empty for none.
    """

    source: Source
    title: str
    endpoint: str
    mirror_setting: str
    token_setting: str
    token: str = ""
    offline_setting: str = ""

    def __repr__(self) -> str:
        # The default would put the token into tracebacks and logs.
        return f"Hub({self.source!r}, {self.endpoint!r})"


HUGGINGFACE = Hub(
    source="huggingface",
    title="Hugging Face",
    endpoint="https://huggingface.co",
    mirror_setting="HF_ENDPOINT",
    token_setting="HF_TOKEN",  # noqa: S106  # the setting's name
)
MODELSCOPE = Hub(
    source="modelscope",
    title="ModelScope",
    endpoint="https://modelscope.cn",
    mirror_setting="MODELSCOPE_ENDPOINT",
    token_setting="MODELSCOPE_API_TOKEN",  # noqa: S106  # the setting's name
)


class Access(msgspec.Struct, frozen=True):
    """How the hubs are reached.

    Attributes:
        huggingface: The Hugging Face hub or a mirror of it.
        modelscope: The ModelScope hub or its sister site.
        timeout_s: Longest silence of a hub, seconds.
        attempts: Tries of a request that fails for a passing reason, and of a file of which
            nothing more arrives.
        patience_s: Wait before the second attempt, seconds; doubles with each.
    """

    huggingface: Hub = HUGGINGFACE
    modelscope: Hub = MODELSCOPE
    timeout_s: float = 20.0
    attempts: int = 4
    patience_s: float = 1.0


def endpoint(value: str, *, setting: str) -> str:
    """Check and trim the address of a hub; a bare host name is taken as https.

    Args:
        value: Address as it was set.
        setting: Name of the setting, for the error.

    Raises:
        InvalidConfig: It is not an http or https address.
    """
    text = value.strip()
    if "://" not in text:
        text = f"https://{text}"
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.query:
        raise InvalidConfig(
            f"{setting}={value!r} is not the address of a hub",
            hint=f"for example {setting}=https://huggingface.co",
        )
    return text.rstrip("/")
