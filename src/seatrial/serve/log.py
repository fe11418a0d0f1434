"""The log of a service: a line on standard error for each event, as JSON or as text.

A line is one write, so that lines of several processes stay whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

from seatrial.errors import in_one_line, visible
from seatrial.serve.trace_context import current_trace

Level = str  # "info", "warning" or "error"
# Facts of an event that its text has in its message already.
IN_MESSAGE = frozenset({"pid"})


def say(level: Level, event: str, message: str, hint: str = "", /, **facts: object) -> None:
    """Write a line; where it cannot be written, it is lost.

    Args:
        level: ``info``, ``warning`` or ``error``.
        event: Name of the kind of event; it stays the same across releases.
        message: What happened, in words.
        hint: What to do: a line of its own as text, a part of the message as JSON.
        **facts: Further fields.
    """
    _write(_lines[0](level, event, message, hint, facts) + "\n")


def _write(line: str) -> None:
    # A full disk or a reader that has gone must not end a request, or a thread that watches files.
    with contextlib.suppress(OSError):
        sys.stderr.write(line)
        sys.stderr.flush()


def configure(log_format: str) -> None:
    """Choose the form of the lines: ``text`` or ``json``; other libraries' lines follow it."""
    _lines[0] = _json if log_format == "json" else _text
    if log_format == "json":
        logging.captureWarnings(True)
        for name in ("", *OF_OTHERS):
            logger = logging.getLogger(name)
            logger.handlers = [Handler()]
            logger.propagate = False
        logging.getLogger().setLevel(logging.WARNING)
        threading.excepthook = _log_end
    elif not logging.getLogger().handlers:
        logging.getLogger().addHandler(TextHandler())


OF_OTHERS = ("bentoml", "circus", "uvicorn", "uvicorn.error", "py.warnings")


def _text(level: Level, event: str, message: str, hint: str, facts: dict[str, Any]) -> str:
    told = "".join(
        f" {key}={value!r}" if isinstance(value, str) and not value.isalnum() else f" {key}={value}"
        for key, value in facts.items()
        if key not in IN_MESSAGE
    )
    line = f"{'' if level == 'info' else f'{level}: '}{in_one_line(message)}{told}"
    return f"{line}\nhint: {in_one_line(hint)}" if hint else line


def _json(level: Level, event: str, message: str, hint: str, facts: dict[str, Any]) -> str:
    row: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        "message": f"{message}\nhint: {hint}" if hint else message,
        **facts,
        "process": os.getpid(),
    }
    trace = current_trace.get()
    if trace is not None and "request_id" not in row:
        row |= {"request_id": trace.request_id, "trace_id": trace.trace_id}
    try:
        return msgspec.json.encode(row).decode()
    except UnicodeEncodeError:  # the name of a file may be no text at all
        return msgspec.json.encode({key: _writable(value) for key, value in row.items()}).decode()


def _writable(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


_lines: list[Callable[[Level, str, str, str, dict[str, Any]], str]] = [_text]


def _log_end(ended: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, which Python would write to standard error as it is."""
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "?"
        logging.getLogger(__name__).error("thread %s ended", name, exc_info=ended.exc_value)


class GoesOn:
    """Keeps a loop in the background going: what a round of it raises is logged.

    Of failures in a row the first is logged, since a loop may fail several times a second for ever.
    To be used as the context of each round.

    Args:
        failed: The message, such as ``a look at the lanes failed``.
    """

    def __init__(self, failed: str) -> None:
        self._failed = failed
        self._fails = False

    def __enter__(self) -> None:
        """Begin a round."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> bool:
        """End a round; the next one comes unless the loop itself is ended."""
        is_failure = isinstance(error, Exception)
        if is_failure and not self._fails:
            logging.getLogger(__name__).error(self._failed, exc_info=error)
        self._fails = is_failure
        return is_failure


class Handler(logging.Handler):
    """Writes what other libraries log as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; its traceback is a field."""
        facts: dict[str, object] = {"logger": record.name}
        if told := _traceback(record):
            facts["exception"] = told
        say(_level(record), "library", record.getMessage().strip(), **facts)


class TextHandler(logging.Handler):
    """Writes what other libraries log as text: a line, and the lines of its traceback indented.

    What an error says may come from outside: no line of it looks like one of an event.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        line = _text(_level(record), "library", record.getMessage().strip(), "", {})
        below = visible(_traceback(record)).splitlines()
        _write("".join(f"{one}\n" for one in (line, *(f"    {one}" for one in below))))


def _level(record: logging.LogRecord) -> Level:
    return "error" if record.levelno >= logging.ERROR else record.levelname.lower()


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info))
    return ""
