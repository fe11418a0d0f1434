"""TLS by files: the context of new connections, made again when a file changes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from seatrial.deployment import Server
from seatrial.errors import InvalidConfig, SeatrialError, first_line
from seatrial.serve.grpc_library import KINDS, serves
from seatrial.serve.log import say
from seatrial.serve.watched_files import WatchedFiles
from seatrial.system.certificates import first_end_s
from seatrial.system.files import beside, bounded_bytes, in_memory

MOST_BYTES = 2**20
DAY_S = 86400.0
SOON_S = 14 * DAY_S  # before its end a certificate is spoken of
HINT = (
    "server.tls_certificate (--tls-certificate) is a PEM file with the certificate, and behind it "
    "those between it and the authority; server.tls_key (--tls-key) is one with its key, without "
    "a password"
)


class Tls:
    """The certificate of a service. Connections that are open keep theirs when it changes.

    Args:
        certificate: PEM: the certificate, and those between it and the authority.
        key: PEM, without a password.
        grpc: Whether it is served over gRPC, too.

    Attributes:
        context: Context of the next connection.
        pair: Key and certificate of the next connection, PEM.
        end_s: The earliest end of the certificates in the file, seconds since 1970; None where that
            cannot be read.
        on_new: Called when the certificate is another one.

    Raises:
        InvalidConfig: A file cannot be read or used, the two do not belong together, or gRPC does
            not serve them.
        MissingExtra: gRPC is not installed.
    """

    def __init__(self, certificate: Path, key: Path, *, grpc: bool = False) -> None:
        self._files = certificate, key
        self._grpc = grpc
        self._watch = WatchedFiles(self._files, self._reread)
        self.on_new: Callable[[], object] = lambda: None
        try:
            self._take()
        except BaseException:
            self._watch.close()
            raise

    @classmethod
    def of(cls, server: Server) -> Tls | None:
        """The certificate that a deployment names; None where it names none.

        Raises:
            InvalidConfig: See `Tls`; or it names one file of the two.
        """
        certificate, key = server.tls_certificate, server.tls_key
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            absent = "tls_key" if key is None else "tls_certificate"
            option = f"--{absent.replace('_', '-')}"
            raise InvalidConfig(
                f"server.{absent} is missing ({option}): TLS needs both files", hint=HINT
            )
        return cls(Path(certificate), Path(key), grpc=server.grpc_port is not None)

    def close(self) -> None:
        """Look at the files no more."""
        self._watch.close()

    def warn(self) -> None:
        """Say where the certificate ends soon, or has ended: clients refuse it then."""
        if self.end_s is None or (left_s := self.end_s - time.time()) > SOON_S:
            return
        file, end = self._files[0], datetime.fromtimestamp(self.end_s, UTC)
        ends = f"ends in {left_s / DAY_S:.1f} days" if left_s > 0 else "has ended"
        say("warning", "certificate", f"the certificate in {file} {ends}, {end:%Y-%m-%d %H:%M} UTC")

    def _take(self) -> None:
        context, pair = _read(*self._files)
        if self._grpc and not serves(*pair):
            raise InvalidConfig(
                f"gRPC does not serve the kind of key that is in {self._files[1]}",
                hint=f"it takes keys of the kinds {KINDS}; or leave out server.grpc_port "
                "(--grpc-port)",
            )
        self.context, self.pair = context, pair
        self.end_s = first_end_s(self.pair[1])

    def _reread(self) -> None:
        try:
            self._take()
        except SeatrialError as error:
            # The one of two files that is written first does not fit yet.
            say("error", "certificate", f"the certificate stays as it is: {error.message}")
        else:
            say("info", "certificate", "new connections get the new certificate")
            self.warn()
            self.on_new()


def _read(certificate: Path, key: Path) -> tuple[ssl.SSLContext, tuple[bytes, bytes]]:
    found = []
    for file in (key, certificate):
        try:
            found.append(bounded_bytes(file, MOST_BYTES))
        except OSError as error:
            raise InvalidConfig(
                f"{file} cannot be read: {error.strerror}", hint=beside(file)
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The bytes that were read, and not the files once more: they may be others by now.
        with in_memory(found[1]) as certificates, in_memory(found[0]) as keys:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificates, keys, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        said = _said(certificate, key, found[1], found[0], first_line(error))
        raise InvalidConfig(said, hint=HINT) from error
    return context, (found[0], found[1])


def _said(certificate: Path, key: Path, in_certificate: bytes, in_key: bytes, why: str) -> str:
    """The message about a pair that OpenSSL refused: for most it says "PEM lib" alone."""
    if b"CERTIFICATE-----" not in in_certificate:
        return f"{certificate} holds no certificate in PEM"
    if b"PRIVATE KEY-----" not in in_key:
        return f"{key} holds no private key in PEM"
    if b"ENCRYPTED" in in_key:
        return f"{key} has a password"
    if "KEY_VALUES_MISMATCH" in why or "NO_CERTIFICATE_ASSIGNED" in why:
        return f"{key} is not the key of the first certificate in {certificate}"
    return f"{certificate} and {key} cannot be used: {why}"
