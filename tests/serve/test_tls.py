"""Certificates by files: which are taken, and what becomes of a change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certificates import Made, make_certificate
from seatrial.deployment import Server
from seatrial.errors import InvalidConfig
from seatrial.serve import tls as module
from seatrial.serve.tls import Tls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("certificates")
    names = {"one": "", "two": "", "locked": "secret"}
    return {name: make_certificate(folder, name, password=word) for name, word in names.items()}


def test_versions_and_protocol(made: dict[str, Made]) -> None:
    tls = Tls(*made["one"])
    tls.close()
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.context.options & ssl.OP_NO_RENEGOTIATION


def test_files_that_do_not_do(made: dict[str, Made], tmp_path: Path) -> None:
    one, two, locked = (made[name] for name in ("one", "two", "locked"))
    with pytest.raises(InvalidConfig, match=r"two\.key is not the key of .*one\.pem"):
        Tls(one.certificate, two.key)
    # The authority's before one's own, as some join them.
    (tmp_path / "chain").write_bytes(one.certificate.read_bytes() + two.certificate.read_bytes())
    with pytest.raises(InvalidConfig, match="not the key of the first certificate in"):
        Tls(tmp_path / "chain", two.key)
    with pytest.raises(InvalidConfig, match=r"locked\.key has a password"):
        Tls(locked.certificate, locked.key)
    with pytest.raises(InvalidConfig, match="absent cannot be read: No such file"):
        Tls(one.certificate, tmp_path / "absent")
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(InvalidConfig, match="text holds no certificate in PEM") as caught:
        Tls(tmp_path / "text", one.key)
    with pytest.raises(InvalidConfig, match="text holds no private key in PEM"):
        Tls(one.certificate, tmp_path / "text")
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken").write_bytes(broken)
    with pytest.raises(InvalidConfig, match=r"broken and .* cannot be used: "):
        Tls(tmp_path / "broken", one.key)
    assert "server.tls_key" in caught.value.hint
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidConfig, match="cannot be read"):
        Tls(tmp_path / "folder", one.key)


def test_a_deployment_names_both_files_or_none(made: dict[str, Made]) -> None:
    assert Tls.of(Server()) is None
    with pytest.raises(InvalidConfig, match=r"server\.tls_key is missing \(--tls-key\)"):
        Tls.of(Server(tls_certificate="a"))
    with pytest.raises(InvalidConfig, match=r"server\.tls_certificate is missing"):
        Tls.of(Server(tls_key="a"))
    tls = Tls.of(Server(tls_certificate=str(made["one"][0]), tls_key=str(made["one"][1])))
    assert tls is not None
    tls.close()


def test_a_change_is_taken_when_both_files_fit(
    made: dict[str, Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = tmp_path / "service.pem", tmp_path / "service.key"
    certificate.write_bytes(made["one"].certificate.read_bytes())
    key.write_bytes(made["one"].key.read_bytes())
    tls = Tls(certificate, key)
    tls._watch.close()  # the test looks
    first = tls.context
    certificate.write_bytes(made["two"].certificate.read_bytes())
    tls._watch.look()
    assert tls.context is first
    assert "error: the certificate stays as it is" in capsys.readouterr().err
    os.replace(_copy(made["two"].key, tmp_path), key)
    tls._watch.look()
    assert tls.context is not first
    assert "new connections get the new certificate" in capsys.readouterr().err


def test_a_certificate_that_ends_soon_is_spoken_of(
    made: dict[str, Made], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    long = make_certificate(tmp_path, "long", days=30)
    tls = Tls(*long)
    tls._watch.close()  # the test looks
    tls.warn()
    assert capsys.readouterr().err == ""
    for file, source in zip(long, made["one"], strict=True):
        os.replace(_copy(source, tmp_path), file)
    tls._watch.look()
    said, soon = capsys.readouterr().err.splitlines()
    assert said == "new connections get the new certificate"
    assert tls.end_s is not None
    end = datetime.fromtimestamp(tls.end_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert soon == f"warning: the certificate in {long.certificate} ends in 1.0 days, {end}"
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: tls.end_s))
    tls.warn()
    assert f" has ended, {end}" in capsys.readouterr().err


def test_the_end_is_a_metric(
    run_app: Callable[..., Any], made: dict[str, Made], tmp_path: Path,
    metric: Callable[..., float], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = "seatrial_tls_certificate_not_after_timestamp_seconds"
    files = make_certificate(tmp_path, "service", days=30)
    server = Server(tls_certificate=str(files.certificate), tls_key=str(files.key))
    with run_app(server=server) as running:
        tls: Tls = running.app.state.serving.tls
        tls._watch.close()  # the test looks
        first = tls.end_s
        assert metric(name) == first
        assert "the certificate in" not in capsys.readouterr().err
        for file, source in zip(files, made["one"], strict=True):
            os.replace(_copy(source, tmp_path), file)
        tls._watch.look()
        assert metric(name) == tls.end_s != first
    with run_app(server=server):
        assert "ends in 1.0 days" in capsys.readouterr().err


def test_a_change_while_they_are_first_read_is_noticed(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Made(tmp_path / "service.pem", tmp_path / "service.key")
    read = module._read

    def then_changed(*paths: Path) -> Any:
        found = read(*paths)
        for file, source in zip(files, made["two"], strict=True):
            file.write_bytes(source.read_bytes())
        return found

    for file, source in zip(files, made["one"], strict=True):
        file.write_bytes(source.read_bytes())
        os.utime(file, (0, 0))
    monkeypatch.setattr(module, "_read", then_changed)
    tls = Tls(*files)
    tls._watch.close()
    tls._watch.look()
    assert tls.pair[1] == made["two"].certificate.read_bytes()


def test_a_change_between_two_reads_makes_no_mixture(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP and gRPC have the certificate of the same moment: each file is read once."""
    files = Made(tmp_path / "service.pem", tmp_path / "service.key")
    for file, source in zip(files, made["one"], strict=True):
        file.write_bytes(source.read_bytes())
    read = module.bounded_bytes

    def then_changed(file: Path, most: int) -> bytes:
        found = read(file, most)
        if file == files.certificate:  # the second of the two
            for each, source in zip(files, made["two"], strict=True):
                each.write_bytes(source.read_bytes())
        return found

    monkeypatch.setattr(module, "bounded_bytes", then_changed)
    tls = Tls(*files)
    tls._watch.close()
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.context.wrap_bio(coming, going, server_side=True)
    trusted = ssl.create_default_context(cadata=tls.pair[1].decode())
    client = trusted.wrap_bio(going, coming, server_hostname="127.0.0.1")
    for step in (client.do_handshake, server.do_handshake):
        with pytest.raises(ssl.SSLWantReadError):
            step()
    client.do_handshake()  # which verifies it


def _copy(file: Path, folder: Path) -> Path:
    copy = folder / "copy"
    copy.write_bytes(file.read_bytes())
    return copy
