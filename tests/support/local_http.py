"""httpx for services on this machine.

Else each client, and each call without one, reads all certificates that the machine trusts: 40 ms
of a core, also where a test asks again and again until a service is ready.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

TRUSTS_NONE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(**options: Any) -> httpx.Client:
    """A client; takes what `httpx.Client` takes."""
    return httpx.Client(verify=TRUSTS_NONE, **options)


def request(method: str, url: str, **options: Any) -> httpx.Response:
    """Answer to one request; takes what `httpx.request` takes."""
    return httpx.request(method, url, verify=TRUSTS_NONE, **options)


def get(url: str, **options: Any) -> httpx.Response:
    """See `request`."""
    return request("GET", url, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """See `request`."""
    return request("POST", url, **options)
