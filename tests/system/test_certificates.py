"""The end of certificates, as the openssl command has it."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import make_certificate
from seatrial.system.certificates import first_end_s

CENTURY_DAYS = 36500  # the year has four digits then


def told_by_openssl(file: Path) -> float:
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", file],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(ssl.cert_time_to_seconds(done.stdout.strip().partition("=")[2]))


@pytest.mark.parametrize("days", [1, CENTURY_DAYS])
def test_the_end_is_that_of_openssl(tmp_path: Path, days: int) -> None:
    file = make_certificate(tmp_path, "one", days=days).certificate
    assert first_end_s(file.read_bytes()) == told_by_openssl(file)


def test_of_several_the_earliest_counts(tmp_path: Path) -> None:
    files = [make_certificate(tmp_path, f"{days}", days=days)[0] for days in (30, 1, 300)]
    pem = b"a comment\n".join(file.read_bytes() for file in files)
    assert first_end_s(pem) == told_by_openssl(files[1])


def test_two_digits_of_a_year_are_of_two_centuries(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(make_certificate(tmp_path, "one").certificate.read_text())
    _, end = re.finditer(rb"\x17\x0d(\d{12}Z)", der)  # after its begin
    for year, seconds in ((b"49", 2493072000.0), (b"50", -631152000.0)):
        other = der[: end.start(1)] + year + b"0101000000Z" + der[end.end(1) :]
        assert first_end_s(ssl.DER_cert_to_PEM_cert(other).encode()) == seconds


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n-----END "])
def test_what_holds_none_has_no_end(pem: bytes) -> None:
    assert first_end_s(pem) is None


@pytest.mark.usefixtures("time_limit")
def test_begins_without_an_end_are_read_over_once() -> None:
    assert first_end_s(b"-----BEGIN CERTIFICATE-----" * 300_000) is None


@given(st.binary(max_size=60))
def test_anything_else_is_no_error(der: bytes) -> None:
    assert first_end_s(ssl.DER_cert_to_PEM_cert(der).encode()) is None


def test_a_certificate_that_is_cut_off_or_changed_is_no_error(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(make_certificate(tmp_path, "one").certificate.read_text())
    for at in range(len(der)):
        for changed in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            first_end_s(ssl.DER_cert_to_PEM_cert(changed).encode())
