"""The command itself: interrupted, and with outputs that cannot be written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SEATRIAL = [sys.executable, "-m", "seatrial.cli.main"]
# A library that is being imported makes an error of its own of Ctrl-C.
SWALLOWED = """
import os, signal, sys
from seatrial.cli import main
sys.modules["seatrial.cli.fake"] = fake = type(sys)("fake")
def run():
    from seatrial.errors import BrokenExtra
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise BrokenExtra("openvino is installed but does not import", hint="reinstall it")
fake.run = run
main.COMMANDS["fake"] = ("fake:run", "")
sys.argv = ["seatrial", "fake"]
main.main()
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "SEATRIAL_HOME": str(tmp_path)}


def test_a_package_that_is_gone_is_an_error_with_what_installs_it(home):
    """OpenCV is, where another build of it was uninstalled."""
    support = Path(__file__).parents[1] / "support"
    path = f"{support / 'startup'}:{support}:{home.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        [*SEATRIAL, "data", "preview", "digits"],
        env=home | {"WITHOUT_MODULES": "cv2", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 4
    assert ended.stderr == (
        "error: cv2 is not installed, or a part of it is missing\n"
        "hint: pip install --force-reinstall opencv-python-headless\n"
    )


def test_an_error_is_one_line_whatever_a_name_holds(home):
    line = [*SEATRIAL, "data", "check", "a\nerror: no\x1b[2J"]
    done = subprocess.run(line, env=home, capture_output=True, text=True)
    first, *others = done.stderr.splitlines()
    assert "a\N{SYMBOL FOR NEWLINE}error: no\N{SYMBOL FOR ESCAPE}[2J" in first
    assert [line for line in others if not line.startswith("hint: ")] == []


def test_interrupt_is_told_and_is_no_other_error(home):
    ended = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


def test_interrupt_of_a_running_command(home):
    """A command that reads a pipe whose writer stays."""
    command = [*SEATRIAL, "detect", "/dev/stdin", "--model", "x"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=home
    ) as process:
        # More than the pipe holds: all is written once the command reads, and is past its imports.
        left = memoryview(bytes(fcntl.fcntl(process.stdin, fcntl.F_GETPIPE_SZ) + 1))
        while left:
            left = left[process.stdin.write(left) :]
        # Python may have looked for signals just before the read in which the command waits.
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        told = process.stderr.read().decode()
    assert (process.returncode, told) == (130, "interrupted\n")


@pytest.mark.parametrize("command", [["serve", "--help"], ["models", "list", "--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(home, command):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*SEATRIAL, *command], stdout=writing, stderr=subprocess.PIPE, env=home)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_an_output_that_is_full_is_told(home):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*SEATRIAL, "models", "list", "--json"], stdout=full, stderr=subprocess.PIPE, env=home
        )
    assert ended.returncode == 7
    assert ended.stderr == (
        b"error: the output cannot be written: No space left on device\n"
        b"hint: send it to another place\n"
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(home, tmp_path, closed):
    """The output of a command goes nowhere, and into no file that it opens."""
    line = f'exec "$@" {closed}'
    for words, code in ((["models", "list", "--json"], 0), (["models", "list", "--wrong"], 2)):
        ended = subprocess.run(
            ["sh", "-c", line, "sh", *SEATRIAL, *words], env=home, capture_output=True, text=True
        )
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        if closed == "<&-":
            assert ended.stdout == ("{}\n" if code == 0 else "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_an_error_that_cannot_be_written_has_its_code(home):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([*SEATRIAL, "models", "list", "--wrong"], stderr=full, env=home)
    assert ended.returncode == 2


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import seatrial", {"numpy", "PIL", "rich", "cyclopts", "msgspec"}),
        (
            "import contextlib\n"
            "from seatrial.cli.main import main\n"
            "sys.argv = ['seatrial', '--help']\n"
            "with contextlib.suppress(SystemExit):\n"
            "    main()",
            {"numpy", "PIL", "msgspec", "rich.markdown", "seatrial.artifact"},
        ),
    ],
    ids=["import seatrial", "seatrial --help"],
)
def test_the_start_loads_little(code, absent):
    """By modules, not by the clock, which a busy machine holds up."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "encodings" in done.stdout.splitlines()
    assert absent & {*done.stdout.splitlines()} == set()


def test_every_command_names_its_options():
    from cyclopts import App

    from seatrial.cli import main

    app = main.build()
    for name in main.COMMANDS:
        command = app[name]
        assert isinstance(command, App)
        assert command.help_format == "markdown", name
