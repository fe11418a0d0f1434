"""Which hubs there are, where they listen, and what a person sets to reach another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from seatrial.errors import InvalidConfig

Source = Literal["huggingface", "modelscope"]
# (file, bytes that are here, bytes in all)
ByteProgress = Callable[[str, int, int], None]


class Hub(msgspec.Struct, frozen=True):
    """Address and credentials of one hub, and the names of the settings they come from.

    Attributes:
        source: Name in a reference, before the colon.
        title: For people.
        endpoint: Scheme, host and, for some mirrors, a path; no slash at the end.
        mirror_setting: Environment variable that names another endpoint.
        token_setting: Environment variable that holds the token.
        token: Sent to the endpoint's own host, never to where it redirects; empty for none.
        offline_setting: Environment variable that forbids the network and is set; empty for none.
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
    "huggingface", "Hugging Face", "https://huggingface.co", "HF_ENDPOINT", "HF_TOKEN"
)
MODELSCOPE = Hub(
    "modelscope",
    "ModelScope",
    "https://modelscope.cn",
    "MODELSCOPE_ENDPOINT",
    "MODELSCOPE_API_TOKEN",
)


class Access(msgspec.Struct, frozen=True):
    """How the hubs are reached.

    Attributes:
        huggingface: The Hugging Face hub or a mirror of it.
        modelscope: The ModelScope hub or its sister site.
        proxies: ``http`` or ``https`` -> address of the proxy for it.
        timeout_s: A hub that says nothing for as long is taken as gone.
        attempts: A request that fails for a passing reason, or a body that is cut off without a
            byte of progress, is tried as often.
        patience_s: Wait before the second attempt; doubles with each.
    """

    huggingface: Hub = HUGGINGFACE
    modelscope: Hub = MODELSCOPE
    proxies: dict[str, str] = {}
    timeout_s: float = 20.0
    attempts: int = 4
    patience_s: float = 1.0

    def hub(self, source: Source) -> Hub:
        """The hub of a name."""
        return self.huggingface if source == "huggingface" else self.modelscope


def endpoint(value: str, *, setting: str) -> str:
    """Check and trim the address of a hub; a bare host name is taken as https.

    Args:
        value: As a person set it.
        setting: Where it was set, for the error.

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
