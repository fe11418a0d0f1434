"""Lines of the log, as JSON and as text."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_http
from seatrial.serve import log
from seatrial.serve.process import ServiceProcess
from seatrial.serve.trace_context import Trace, traced

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "src" / "seatrial" / "serve"


@pytest.fixture
def as_json() -> Iterator[None]:
    """The log as JSON, and all loggers as they were afterwards."""
    loggers = [logging.getLogger(name) for name in ("", *log.OF_OTHERS)]
    before = [(one, one.handlers, one.propagate, one.level) for one in loggers]
    hook = threading.excepthook
    log.configure("json")
    yield
    log.configure("text")
    logging.captureWarnings(False)
    threading.excepthook = hook
    for one, handlers, propagate, level in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def test_a_line_that_cannot_be_written_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes it goes on: a request that is refused, say."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        log.say("error", "x", "y")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


@pytest.mark.usefixtures("as_json")
def test_a_line_of_json_names_the_request_it_belongs_to(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log.say("error", "worker_died", "line one\nline two", pid=7)
    with traced(Trace([(b"x-request-id", b"job-7")])) as trace:
        log.say("info", "x", "y")
    first, second = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first.pop("process") > 0
    assert first == {
        "level": "error", "event": "worker_died", "message": "line one\nline two", "pid": 7,
    }  # fmt: skip
    assert (second["request_id"], second["trace_id"]) == ("job-7", trace.trace_id)


def test_a_hint_is_a_line_of_its_own(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.say("error", "start_failed", "it did not start\nready: x", "make room\nready: y")
    assert capfd.readouterr().err == (
        "error: it did not start\N{SYMBOL FOR NEWLINE}ready: x\n"
        "hint: make room\N{SYMBOL FOR NEWLINE}ready: y\n"
    )
    monkeypatch.setattr(log, "_lines", [log._json])
    log.say("error", "start_failed", "it did not start", "make room")
    row = json.loads(capfd.readouterr().err)
    assert row["message"] == "it did not start\nhint: make room"


def test_an_event_is_one_line_of_text_whatever_is_in_it(capfd: pytest.CaptureFixture[str]) -> None:
    """A name with the end of a line would pass for another event."""
    forged = "x\nready: http://evil\r\x85\u2028\u2029\x1b[2J"
    log.say("error", "reload", f"no artifact {forged}", path=forged, rows=[forged])
    written = capfd.readouterr().err
    assert written.splitlines() == [written[:-1]]
    assert "\x1b" not in written


def test_no_line_of_a_traceback_looks_like_an_event(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log.configure("text")
    try:
        raise LookupError("lost\nready: http://evil\x85ready\x0cready\x1b[2J")
    except LookupError:
        logging.getLogger("some.library").exception("failed: x\nready: y")
    written = capfd.readouterr().err
    first, *below = written.splitlines()
    assert first == "error: failed: x\N{SYMBOL FOR NEWLINE}ready: y"
    assert "    ready: http://evil" in written
    assert all(line.startswith("    ") for line in below)
    assert "\x1b" not in written


@pytest.mark.usefixtures("as_json")
def test_what_libraries_log_is_json_with_its_traceback_in_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    try:
        raise LookupError("lost")
    except LookupError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    logging.getLogger("some.library").info("of no interest")
    (line,) = capfd.readouterr().err.splitlines()
    row = json.loads(line)
    assert (row["level"], row["event"], row["logger"]) == ("error", "library", "uvicorn.error")
    assert row["message"] == "Exception in ASGI application"
    assert row["exception"].endswith("LookupError: lost\n")


@pytest.mark.slow
@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("runtime", ["bentoml", "uvicorn"])
def test_every_line_of_a_service_is_json(
    start_service: Callable[..., ServiceProcess], until: Callable[..., Any], runtime: str
) -> None:
    """With a fault of the service in it, and the death of a server process."""
    faults = "import seatrial.serve.app\nseatrial.serve.app.read_image = lambda *given: 1 // 0\n"
    events = {"ready": "info"} if runtime == "uvicorn" else {}
    with start_service(engine="null", runtime=runtime, log_format="json", code=faults) as service:
        if runtime == "bentoml":
            answer = local_http.post(f"{service.url}/detect", content=b"x", timeout=20)
            assert answer.status_code == 500
            # The server logs the fault after its answer, and a kill now would come before it.
            until(lambda: "ZeroDivisionError" in service._log.read_text())
            (worker,) = psutil.Process(service.process.pid).children()
            worker.kill()
            until(lambda: "worker_died" in service._log.read_text())
            events |= {"request_failed": "error", "library": "error", "worker_died": "error"}
            until(lambda: _serves(service.url))
    rows = [json.loads(line) for line in service._log.read_text().splitlines()]
    assert events.items() <= {(row["event"], row["level"]) for row in rows}
    if runtime == "bentoml":
        named = [row for row in rows if row.get("request_id") == answer.headers["x-request-id"]]
        assert [row["event"] for row in named] == ["request_failed", "library"]
        assert "ZeroDivisionError" in named[1]["exception"]


def _serves(url: str) -> bool:
    try:
        return local_http.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.usefixtures("as_json")
def test_what_ends_a_thread_is_json_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise LookupError("lost")

    thread = threading.Thread(target=fails, name="shadow")
    thread.start()
    thread.join()
    (line,) = capfd.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("error", "thread shadow ended")
    assert "LookupError: lost" in told["exception"]


def test_a_loop_goes_on_and_the_first_failure_in_a_row_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    goes_on = log.GoesOn("a look failed")
    rounds = 0
    for fails in (True, True, False, True):
        with goes_on:
            rounds += 1
            if fails:
                raise LookupError(f"in round {rounds}")
    assert rounds == 4
    logged = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == ["in round 1", "in round 4"]
    assert {record.message for record in caplog.records} == {"a look failed"}
    with pytest.raises(SystemExit), goes_on:
        raise SystemExit


@pytest.mark.usefixtures("as_json")
def test_what_is_no_text_is_a_line_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """The name of a file can be any bytes."""
    log.say("error", "reload", "no file: caf\udce9", path="\udcff")
    row = json.loads(capfd.readouterr().err)
    assert (row["message"], row["path"]) == (r"no file: caf\udce9", r"\udcff")


def test_no_terminal_obeys_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A name that a message repeats may hold what a terminal would act on."""
    log.say("error", "reload", "no file: \x1b[2J\r\x9b1m", name="\x1b[31m")
    assert capfd.readouterr().err == "error: no file: \u241b[2J\u240d\ufffd1m name='\\x1b[31m'\n"


def test_text_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    log.say("info", "ready", "ready: http://127.0.0.1:1")
    log.say("error", "worker_died", "server process 7 was ended by SIGKILL", pid=7)
    log.say("warning", "request_refused", "refused", status=503, code="a b")
    assert capfd.readouterr().err.splitlines() == [
        "ready: http://127.0.0.1:1",
        "error: server process 7 was ended by SIGKILL",
        "warning: refused status=503 code='a b'",
    ]


def nodes_of(*modules: Path) -> Iterator[tuple[Path, ast.AST]]:
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            yield module, node


def test_every_event_is_in_the_table_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "log.md").read_text()
    table = page.partition("| event |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    written = {
        node.args[1].value
        for _, node in nodes_of(*SERVE.rglob("*.py"), SERVE.parent / "cli" / "serve.py")
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("say", "log.say")
        and len(node.args) in (3, 4)  # with a hint
        and isinstance(node.args[1], ast.Constant)
    }
    assert {"ready", "reload"} <= written
    assert written == listed


def test_nothing_else_of_a_service_writes_to_standard_error() -> None:
    """It would be no JSON where the log is. What runs Triton has no such log."""
    others = [path for path in SERVE.rglob("*.py") if "triton" not in str(path.relative_to(SERVE))]
    writing = {
        module.name
        for module, node in nodes_of(*others)
        if ast.unparse(node) in ("sys.stderr", "print")
    }
    assert writing == {"log.py"}
