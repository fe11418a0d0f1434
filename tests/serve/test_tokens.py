"""Which requests a set of tokens lets in."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.deployment import Server
from seatrial.errors import InvalidConfig, Unauthorized
from seatrial.serve.tokens import Tokens
from seatrial.system.token_files import SERVER_TOKENS as TOKENS

ONE, TWO, THREE = (letter * 32 for letter in "abc")


def bearer(token: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"{scheme} {token}".encode())]


def allows(tokens: Tokens, headers: list[tuple[bytes, bytes]], path: str = "/detect") -> bool:
    try:
        tokens.check(path, headers)
    except Unauthorized:
        return False
    return True


def test_without_tokens_everything_is_let_in() -> None:
    tokens = Tokens()
    assert not tokens.required
    assert allows(tokens, [])


def test_tokens_of_the_file_and_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{ONE}\n{TWO}\n")
    tokens = Tokens(Server(token_file=str(file)), {TOKENS: f"{THREE} {'d' * 16}"})
    tokens.close()
    assert tokens.required
    assert all(allows(tokens, bearer(token)) for token in (ONE, TWO, THREE, "d" * 16))
    assert allows(tokens, bearer(f" {ONE} ", "bEARER"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        bearer(ONE[:-1]),
        bearer(ONE + "a"),
        bearer(ONE.upper()),
        bearer(TWO),
        bearer(ONE, "Basic"),
        [(b"authorization", ONE.encode())],
        [*bearer(ONE), *bearer(ONE)],
        [*bearer(TWO), *bearer(ONE)],
        bearer("\udc80".encode("utf-8", "surrogateescape").decode("latin-1")),
        [(b"x-authorization", f"Bearer {ONE}".encode())],
    ],
)
def test_what_is_not_let_in(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized) as caught:
        Tokens(environment={TOKENS: ONE}).check("/detect", headers)
    assert not any(token in caught.value.message + caught.value.hint for token in (ONE, TWO))


def test_probes_need_no_token_and_metrics_by_choice() -> None:
    tokens = Tokens(environment={TOKENS: ONE})
    assert all(allows(tokens, [], path) for path in ("/livez", "/readyz", "/healthz"))
    closed = ("/metrics", "/livez/", "/LIVEZ", "//livez", "/", "/openapi.json", "/v2/health/live")
    assert not any(allows(tokens, [], path) for path in closed)
    tokens = Tokens(Server(open_metrics=True), {TOKENS: ONE})
    assert allows(tokens, [], "/metrics")


def test_each_token_is_compared_whole_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many comparisons, of digests of one length, for the first, the last and none."""
    compared: list[tuple[int, int]] = []
    compare: Any = hmac.compare_digest

    def counted(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return bool(compare(known, given))

    monkeypatch.setattr(hmac, "compare_digest", counted)
    tokens = Tokens(environment={TOKENS: f"{ONE} {TWO} {THREE}"})
    for token in (ONE, THREE, "x", ONE[:-1], "y" * 400):
        allows(tokens, bearer(token))
        assert compared == [(32, 32)] * 3
        compared.clear()


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_in_the_place_of_the_file_is_told_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread that looks would wait for ever, and never see the next file."""
    file = tmp_path / "tokens"
    file.write_text(ONE)
    tokens = Tokens(Server(token_file=str(file)))
    file.unlink()
    os.mkfifo(file)
    tokens._watch.look()
    assert allows(tokens, bearer(ONE))
    assert "stay as they are" in (said := capsys.readouterr().err)
    assert "not a regular file" in said
    file.unlink()
    file.write_text(TWO)
    tokens._watch.look()
    assert allows(tokens, bearer(TWO))
    tokens.close()


def test_a_file_is_read_again_when_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokens"
    file.write_text(ONE)
    tokens = Tokens(Server(token_file=str(file)))
    look = tokens._watch.look
    file.write_text(f"{TWO}\n{THREE}")
    look()
    assert [allows(tokens, bearer(token)) for token in (ONE, TWO, THREE)] == [False, True, True]
    for text in ("", "short"):  # they stay: a file that is half written must not open the service
        file.write_text(text)
        look()
        assert [allows(tokens, bearer(token)) for token in (ONE, TWO)] == [False, True]
    file.unlink()
    look()
    assert allows(tokens, bearer(TWO))
    tokens.close()
    said = capsys.readouterr().err
    assert "2 tokens in force" in said
    assert said.count("error: the tokens stay as they are") == 3
    assert not any(token in said for token in (ONE, TWO, THREE))


@pytest.mark.parametrize("text", ["", " ", "short"])
def test_a_variable_without_a_token_opens_nothing(text: str) -> None:
    with pytest.raises(InvalidConfig, match=TOKENS):
        Tokens(environment={TOKENS: text})


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x"]), st.binary(max_size=60))))
@settings(max_examples=300)
def test_no_other_header_opens_it(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized):
        ONE_TOKEN.check("/detect", headers)


ONE_TOKEN = Tokens(environment={TOKENS: ONE})
