"""Why a request over the network got no answer, in words that do not depend on the library."""

from __future__ import annotations

import os
import re

from seatrial.errors import ServiceFailed, first_line

UNTRUSTED = "its certificate is not trusted"
UNENCRYPTED = "no encrypted connection"
NOT_HTTP = "what answers there is not HTTP"
CLOSED = "the connection is closed without an answer"
SPEAKS_TLS = "this port speaks TLS"  # a service's words, in the clear
NO_GRPC = ("http1.x server", "missing selected ALPN")  # gRPC's words for a port of HTTP
# Part of what the HTTP libraries say -> what to tell; {} is the part in parentheses.
REASONS = (
    (r"not known|name resolution|No address associated", "its name is not known here"),
    (r"CERTIFICATE_VERIFY_FAILED.*?: ([^\"'()\n]+)", f"{UNTRUSTED} ({{}})"),
    (r"\[SSL", UNENCRYPTED),
    (r"timed out|Timeout", "no answer in time"),
    (r"status line|request line|BadStatusLine|Expected HTTP", NOT_HTTP),
    (r"[Ss]erver disconnected|write to closing transport", CLOSED),
    (r"Receive buffer too long", "the head of its answer is too long"),
)
# Of one error, which may quote whatever a server sent: the patterns look at it again and again.
LOOKED_AT = 1000
NUMBER = re.compile(r"\[Errno (\d+)\]")


def network_reason(error: BaseException) -> str:
    """Why a request got no answer: the cause that the operating system or TLS gives."""
    said, cause = "", error
    while cause is not None:
        said += f"{type(cause).__name__}: {str(cause)[:LOOKED_AT]}\n"
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    for pattern, words in REASONS:
        if found := re.search(pattern, said):
            return words.format(*(group.strip() for group in found.groups()))
    number = NUMBER.search(said)
    return os.strerror(int(number[1])) if number else first_line(error)


def no_answer(url: str, reason: str) -> ServiceFailed:
    """The error of every command that is given the address of a service where none answers.

    Args:
        url: The address, as it was given.
        reason: From `network_reason`.
    """
    if reason == NOT_HTTP:
        return ServiceFailed(
            f"no HTTP service is at {url}: {reason}",
            hint="give the port of HTTP; the address of a port of gRPC begins with grpc://",
        )
    if any(words in reason for words in NO_GRPC):
        return ServiceFailed(
            f"no gRPC service is at {url}: what answers there is HTTP/1.1",
            hint="give the port of gRPC (server.grpc_port); that of HTTP is "
            f"{url.replace('grpc', 'http', 1)}",
        )
    if reason.startswith(SPEAKS_TLS):
        hint = f"give the address {url.replace('://', 's://', 1)}"
    elif reason.startswith(UNTRUSTED):
        hint = "name the authority of its certificate: --ca-file FILE, in Python ca_file"
    elif (reason == CLOSED or "Socket closed" in reason) and url.startswith(("http://", "grpc://")):
        secure = url.replace("://", "s://", 1)
        hint = f"correct the address; a port with TLS closes such connections: {secure}"
        if url.startswith("http:"):
            hint += ", and so does one of gRPC: grpc://"
    elif reason == UNENCRYPTED:
        hint = f"correct the address; a service without TLS is {url.replace('s://', '://', 1)}"
    else:
        hint = "start a service (seatrial serve --model NAME), or correct the address"
    return ServiceFailed(f"nothing answers at {url}: {reason}", hint=hint)
