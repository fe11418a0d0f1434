"""Requests made from the interface's own description; each answer is as described."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seatrial.deployment import Limits, Server

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef" * 2
PNG = b"\x89PNG\r\n\x1a\n"
# Statuses that a run of a few requests meets.
MET = {200, 400}

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    pytest.importorskip("schemathesis", reason="Schemathesis is not installed")
    path = ROOT / "benchmarks" / "fuzz_interface.py"
    spec = importlib.util.spec_from_file_location("fuzz_interface", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_interface"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(run_app: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(TOKEN)
    with run_app(Limits(body_bytes=2**18), server=Server(token_file=str(file))) as running:
        yield running


def test_every_answer_is_as_described(fuzzer: ModuleType, served: Any) -> None:
    report = fuzzer.fuzz(f"http://127.0.0.1:{served.port}", 8, 0, TOKEN)
    assert report.failures == {}
    statuses = {status for _, status in report.statuses}
    assert statuses >= MET
    described = served.client.get("/openapi.json", headers=AUTHORISED).json()
    assert len({operation for operation, _ in report.statuses}) == len(described["paths"])


def test_a_service_that_leaks_is_found_out(
    fuzzer: ModuleType, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks can fail: an answer with a trace, and with a status that is not described."""
    from starlette.responses import PlainTextResponse

    from seatrial.serve.protocols import error_answers

    def traced(*_: Any, **__: Any) -> PlainTextResponse:
        return PlainTextResponse('Traceback\n  File "/srv/app.py"', 418)

    monkeypatch.setattr(error_answers, "plain_answer", traced)
    report = fuzzer.fuzz(f"http://127.0.0.1:{served.port}", 2, 0, TOKEN)
    kinds = " ".join(report.failures)
    assert "leak" in kinds
    assert "UndefinedStatusCode" in kinds


AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
