"""The address of a service, and the requests that it is sent."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Sequence

import msgspec
from yarl import URL

from seatrial.client.inference_wire import GRPC
from seatrial.errors import InvalidConfig
from seatrial.load.images import EncodedImage
from seatrial.load.samples import ProtocolName

DETECT = "/detect"


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that takes one image and answers with detections.

    Attributes:
        url: Scheme, host and port: ``http://127.0.0.1:3000``; or ``grpc://127.0.0.1:3001`` for the
            Open Inference Protocol over gRPC.
        path: Path that images are posted to; in the Open Inference Protocol, the name of the model,
            the path of its inference, or `DETECT` for the first that takes an encoded image.
        field: Name of the multipart field; None: the image is the raw body.
        params: Query parameters of every request, ``{"confidence": "0.4"}``.
        model_path: Path at which the service describes itself; need not exist.
        ready_path: Path at which the service says that it is ready; need not exist.
        protocol: How images are sent; None: what the address, the path and the service say.
    """

    url: str
    path: str = DETECT
    field: str | None = None
    params: dict[str, str] = {}
    model_path: str = "/model"
    ready_path: str = "/readyz"
    protocol: ProtocolName | None = None


class Body(msgspec.Struct, frozen=True, gc=False):
    """One request, built before the load starts: building it would cost the service its cores.

    Attributes:
        data: Its body.
        headers: Headers of the body.
        readable: Whether a good answer must have detections that can be read. The service's first
            answers had them: one without is an error with a good status, as gateways send.
    """

    data: bytes
    headers: dict[str, str]
    readable: bool = False


def base_url(target: Target) -> URL:
    """The parsed address.

    Raises:
        InvalidConfig: Not an http(s) or grpc address, one with a path or a password, or one that
            does not fit the protocol.
    """
    try:
        url = URL(target.url)
    except ValueError as error:
        raise InvalidConfig(f"{target.url!r} is not an address: {error}") from error
    if url.scheme not in ("http", "https", *GRPC) or not url.host:
        hint = "give scheme, host and port, for example http://127.0.0.1:3000"
        raise InvalidConfig(f"{target.url!r} is not an http or grpc address", hint=hint)
    if url.scheme in GRPC and url.explicit_port is None:
        hint = "give the port of gRPC, for example grpc://127.0.0.1:3001"
        raise InvalidConfig(f"{target.url!r} has no port", hint=hint)
    if target.protocol is not None and (target.protocol == "grpc") != (url.scheme in GRPC):
        raise InvalidConfig(
            f"the protocol {target.protocol} does not fit the address {target.url}",
            hint="grpc:// is the address of grpc, and http:// that of http and v2",
        )
    if (url.scheme in GRPC or target.protocol == "v2") and (target.field or target.params):
        raise InvalidConfig(
            "a field of a form and parameters of a query do not belong to the Open Inference "
            "Protocol",
            hint="leave them out, or send images to a path of your own (--protocol http)",
        )
    if url.path not in ("", "/") or url.query_string or url.fragment:
        raise InvalidConfig(
            f"{target.url} is more than the address of a service",
            hint=f"give --url {url.origin()} and --path {url.raw_path_qs!r}",
        )
    if not target.path.startswith("/") and "://" in target.path:
        raise InvalidConfig(
            f"the path {target.path!r} is an address",
            hint="--url has scheme, host and port of the service, and --path what follows",
        )
    if url.user or url.password:
        message = "the address holds a user name or a password"
        raise InvalidConfig(message, hint="the report shows the address; leave them out")
    return url


def endpoint(target: Target) -> URL:
    """The address that images are posted to, with the query parameters."""
    url = base_url(target)
    if url.scheme in GRPC:
        return url
    # Not joined as a reference: `//other/path` would be another host.
    path = target.path if target.path.startswith("/") else f"/{target.path}"
    return URL(f"{url.origin()}{path}").update_query(target.params)


def bodies(target: Target, images: Sequence[EncodedImage]) -> list[Body]:
    """Prepare the request of every image, raw or multipart (RFC 7578)."""
    if target.field is None:
        return [Body(image.data, {"Content-Type": image.content_type}) for image in images]
    return [_multipart(target.field, image) for image in images]


def _multipart(field: str, image: EncodedImage) -> Body:
    # From the bytes themselves: the same image always makes the same request.
    boundary = f"seatrial-{hashlib.sha256(image.data).hexdigest()[:32]}"
    # As browsers do (WHATWG HTML, "multipart/form-data encoding algorithm").
    quoted = field.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    suffix = image.content_type.rpartition("/")[2]
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{quoted}"; filename="image.{suffix}"\r\n'
        f"Content-Type: {image.content_type}\r\n\r\n"
    )
    data = head.encode() + image.data + f"\r\n--{boundary}--\r\n".encode()
    return Body(data, {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def is_local(target: Target) -> bool:
    """Whether the service runs on this machine, judged by its address."""
    import psutil

    host = base_url(target).host or ""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {row.address for rows in psutil.net_if_addrs().values() for row in rows}
    parsed = [ipaddress.ip_address(address.partition("%")[0]) for address in found]
    # Linux routes the unspecified address (0.0.0.0) to itself.
    return bool(found & own) or any(one.is_loopback or one.is_unspecified for one in parsed)
