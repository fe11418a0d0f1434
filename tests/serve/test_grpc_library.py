"""Which certificates gRPC serves, as its installed version does; and what becomes of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certificates import make_certificate
from seatrial.artifact import Artifact
from seatrial.errors import InvalidConfig
from seatrial.serve.grpc_library import KINDS, serves
from seatrial.serve.tls import Tls

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: seatrial[grpc]")

pytestmark = pytest.mark.usefixtures("time_limit")
HINT = f"it takes keys of the kinds {KINDS}; or leave out server.grpc_port (--grpc-port)"


def is_answered(key: bytes, certificate: bytes) -> bool:
    """Whether a client that trusts the certificate gets an answer of a server that has it."""
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)])
        )
    except RuntimeError:
        return False
    server.start()
    try:
        trusted = grpc.ssl_channel_credentials(certificate)
        with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
            try:
                channel.unary_unary("/a.B/C")(b"", timeout=20)
            except grpc.RpcError as error:
                return bool(error.code() == grpc.StatusCode.UNIMPLEMENTED)
        return True
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("kind", "is_served"),
    [
        ("rsa", True), ("prime256v1", True), ("secp384r1", True), ("secp521r1", False),
        ("secp256k1", False), ("ed25519", False),
    ],
)  # fmt: skip
def test_what_is_served_is_what_clients_get_an_answer_of(
    tmp_path: Path, kind: str, is_served: bool
) -> None:
    made = make_certificate(tmp_path, "one", kind=kind)
    key, certificate = made.key.read_bytes(), made.certificate.read_bytes()
    assert serves(key, certificate) is is_answered(key, certificate) is is_served
    Tls(*made).close()  # HTTP takes them all
    if is_served:
        Tls(*made, grpc=True).close()
        return
    with pytest.raises(InvalidConfig, match=r"gRPC does not serve .* in .*one\.key") as caught:
        Tls(*made, grpc=True)
    assert caught.value.hint == HINT


def test_a_renewal_with_a_kind_that_is_not_served_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {kind: make_certificate(tmp_path, kind, kind=kind) for kind in ("rsa", "ed25519")}
    files = make_certificate(tmp_path, "service")
    tls = Tls(*files, grpc=True)
    tls._watch.close()  # the test looks
    for kind, is_new in (("ed25519", False), ("rsa", True)):
        before = tls.context
        for file, source in zip(files, made[kind], strict=True):
            file.write_bytes(source.read_bytes())
        tls._watch.look()
        assert (tls.context is not before) is is_new
        assert ("gRPC does not serve the kind" in capsys.readouterr().err) is not is_new
    assert tls.pair[1] == made["rsa"].certificate.read_bytes()


@pytest.mark.parametrize("runtime", ["bentoml", "uvicorn"])
def test_the_command_ends_before_it_serves(
    tiny_artifact: Artifact, tmp_path: Path, runtime: str
) -> None:
    made = make_certificate(tmp_path, "one", kind="ed25519")
    done = subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", "serve", "--model", str(tiny_artifact.path),
         "--engine", "null", "--on", runtime, "--port", "0", "--grpc-port", "0",
         "--tls-certificate", str(made.certificate), "--tls-key", str(made.key)],
        env={**os.environ, "SEATRIAL_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"hint: {HINT}")
    assert "Traceback" not in done.stderr
