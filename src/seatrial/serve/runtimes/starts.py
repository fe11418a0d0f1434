"""Starts of workers that failed: after three the service ends, with the first error.

A supervisor starts a worker that ended again, whatever it ended of. One that can never start would
be started for ever, and each time the log says the same. So each worker writes down that it begins
to start, and takes the note away when it serves: whatever ends it before that is a failed start.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from seatrial.errors import SeatrialError, ServiceFailed, first_line
from seatrial.serve.control import SUPERVISOR
from seatrial.serve.log import say
from seatrial.system.own_folders import make_own_folder

FOLDER = "SEATRIAL_STARTS"  # notes of the workers of one supervisor, which sets it for them
MOST = 3
VERDICT = "failed.json"
DEATH = "death-"  # notes of workers that died: death-PID
SILENT = "a server process ended before it was ready, without an error"


class FailedStart(msgspec.Struct, frozen=True):
    """Error of a start: message, hint, and the exit code of a command that it ends."""

    message: str = SILENT
    hint: str = "it may have been killed: look for 'out of memory' in the kernel's log (dmesg)"
    exit_code: int = ServiceFailed.exit_code

    @classmethod
    def of(cls, error: BaseException) -> FailedStart:
        """The failure of an error that ended a start."""
        if isinstance(error, SeatrialError):
            return cls(error.message, error.hint, error.exit_code)
        return cls(f"{type(error).__name__}: {first_line(error)}", "see the traceback in the log")


def supervise() -> bool:
    """Keep the notes of this process's workers; at its end, say what failed and exit with its code.

    Returns:
        False in a worker, whose supervisor keeps them: nothing happens there.
    """
    if supervisor() == os.getppid():
        return False
    folder = make_own_folder(SUPERVISOR, Path(tempfile.gettempdir()))
    os.environ[FOLDER] = f"{os.getpid()}:{folder}"
    owner = os.getpid()

    def end() -> None:
        if os.getpid() != owner:  # a fork of it
            return
        failure = _read(folder / VERDICT)
        shutil.rmtree(folder, ignore_errors=True)
        if not failure:
            return
        first = failure[0]
        message = f"the service did not start: {first.message}"
        say("error", "start_failed", message, first.hint)
        os._exit(first.exit_code)  # the supervisor thinks that it was asked to end

    atexit.register(end)
    return True


def supervisor() -> int | None:
    """Id of the process that set the folder; None where there is none."""
    pid = os.environ.get(FOLDER, "").partition(":")[0]
    return int(pid) if pid.isdigit() else None


def own_folder() -> Path:
    """The folder of this process, which is a supervisor: `supervise` gave True."""
    return _folder()


def folder() -> Path | None:
    """The folder of this process's supervisor, or its own where it is one; None without one."""
    return _folder() if supervisor() in (os.getppid(), os.getpid()) else None


def note_death(pid: int) -> None:
    """Note that a worker died; for `deaths` of the next one."""
    with contextlib.suppress(OSError):
        (_folder() / f"{DEATH}{pid}").touch()


def deaths() -> int:
    """Number of workers that died, each of which is told to one worker alone."""
    if supervisor() != os.getppid():
        return 0
    told = 0
    for note in _folder().glob(f"{DEATH}*"):
        with contextlib.suppress(OSError):  # another worker was told
            note.unlink()
            told += 1
    return told


@contextlib.contextmanager
def counted(worker: int, most: int = MOST) -> Iterator[Callable[[], None]]:
    """Count the start of a worker, the block; end its supervisor where it failed too often.

    Args:
        worker: Index of the worker, from 0.
        most: Failed starts in a row that end the service.

    Yields:
        To be called when the worker serves. An error before that is a failed start; an end that was
        asked for is none.
    """
    if supervisor() != os.getppid():
        yield lambda: None
        return
    note = _folder() / f"worker-{worker}.json"
    before = _read(note)
    if len(before) >= most:  # the last ones ended without a chance to say so
        _give_up(note, before)
    _write(note, [*before, FailedStart()])
    starting = True

    def serves() -> None:
        nonlocal starting
        starting = False
        note.unlink(missing_ok=True)

    try:
        yield serves
    except BaseException as error:
        if starting and not _is_asked(error):
            starting = False
            failed = [*before, FailedStart.of(error)]
            _write(note, failed)
            if len(failed) >= most:
                _give_up(note, failed)
        raise
    finally:
        if starting:  # it was asked to end
            _write(note, before)


def has_failed() -> bool:
    """Whether a start failed too often, so that this process, a supervisor, ends of that."""
    return (_folder() / VERDICT).exists()


def _is_asked(error: BaseException) -> bool:
    """Whether an error is the end that a signal asks for."""
    return isinstance(error, SystemExit) and not error.code


def _give_up(note: Path, failed: list[FailedStart]) -> None:
    verdict = note.parent / VERDICT
    if not verdict.exists():
        _write(verdict, failed[:1])
    os.kill(os.getppid(), signal.SIGTERM)


def _folder() -> Path:
    return Path(os.environ[FOLDER].partition(":")[2])


def _read(path: Path) -> list[FailedStart]:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=list[FailedStart])
    return []


def _write(path: Path, failures: list[FailedStart]) -> None:
    scratch = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a full disk must not end a service that can start
        scratch.write_bytes(msgspec.json.encode(failures))
        scratch.replace(path)
