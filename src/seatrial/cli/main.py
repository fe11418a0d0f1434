"""The ``seatrial`` command: parse, call the library, print; the exit code is the verdict."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

    from seatrial.errors import SeatrialError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
INPUT_OUTPUT = 74  # EX_IOERR, sysexits.h
# Names, not imports: a command loads what it needs when it runs.
COMMANDS = {
    "init": ("init:init", "Write a project of your own: recipe, contract, deployment, Makefile."),
    "doctor": ("doctor:doctor", "Show hardware, engines, what works and what is missing."),
    "models": ("models:app", "Fetch, import and list models."),
    "data": ("data:app", "Make, check, convert, split and label datasets."),
    "finetune": ("finetune:finetune", "Train a detector on your own images, and prove it."),
    "export": ("export:export", "Write another format or precision of a model, and prove it."),
    "detect": ("detect:detect", "Find objects in images and videos."),
    "demo": ("demo:demo", "Show a detector at work in a web page."),
    "serve": ("serve:serve", "Serve a detector over HTTP."),
    "reload": ("reload:reload", "Have a running service serve another model."),
    "canary": ("reload:app", "Serve a second model beside the first."),
    "rehearse": ("reload:rehearse", "Try whether a model could take the place of a served one."),
    "package": ("package:app", "Write a deployment as another inference server takes it."),
    "bench": ("bench:bench", "Measure a service, and explain the result."),
    "compare": ("compare:compare", "Say which of two services is faster, or since when one is."),
    "loadgen": ("loadgen:loadgen", "Have MLPerf LoadGen measure a service."),
    "compress": ("compress:app", "Quantise a model, and prove that it stays right."),
    "trial": ("trial:trial", "Find the deployment that holds a contract, and prove it."),
    "judge": ("judge:judge", "Judge a service by its contract: accuracy, latency, load."),
    "capacity": ("capacity:capacity", "Plan how many machines hold a rate."),
    "evaluate": ("evaluate:evaluate", "Measure a detector's accuracy on labelled images."),
}


def build() -> App:
    """The command line."""
    from cyclopts import App, Parameter

    import seatrial
    from seatrial.cli.help import HelpFormatter, PipedConsole, default_text, documentation

    app = App(
        name="seatrial",
        help="Take an object detector from weights to a production service, and measure it "
        f"honestly.\n\nDocumentation:\n{documentation()}",
        version=seatrial.__version__,
        suppress_keyboard_interrupt=False,
        console=PipedConsole(),
        # The list of commands needs no Markdown, whose renderer takes a quarter of the time that
        # --help takes. The commands keep it: it fills the lines of wrapped docstrings.
        help_format="plaintext",
        help_formatter=HelpFormatter(),
        # An empty list is never what a command works on: no --empty-x.
        default_parameter=Parameter(negative_iterable=(), show_default=default_text),
        config=_check_values,
    )
    for name, (target, summary) in COMMANDS.items():
        # A group of commands (an App) says so itself.
        form = {} if target.endswith(":app") else {"help_format": "markdown"}
        app.command(f"seatrial.cli.{target}", name=name, help=summary, **form)
    return app


def _check_values(app: App, words: tuple[str, ...], arguments: ArgumentCollection) -> None:
    from seatrial.cli.usage import check_values

    check_values(app, words, arguments)


def main() -> None:
    """Run the command line; errors become one message, a hint and an exit code."""
    _open_closed_streams()
    # Ended like by Ctrl-C: a benchmark then ends the service that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    interrupt = _Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    try:
        from seatrial.errors import SeatrialError

        try:
            _run(build())
            sys.stdout.flush()
        except SeatrialError as error:
            if interrupt.seen:
                raise KeyboardInterrupt from error
            from seatrial.cli.usage import in_better_words

            _end_with(in_better_words(error, sys.argv[1:]))
        except ImportError as error:
            from seatrial.system.extras import missing_package

            missing = missing_package(error)
            if missing is None:
                raise
            _end_with(missing)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has closed it
        _drop_output()
        sys.exit(0)
    except OSError as error:
        if error.strerror is None:
            raise
        _end_with_os_error(error)


def _run(app: App) -> None:
    from cyclopts import CycloptsError

    try:
        app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        from seatrial.cli.usage import usage_error

        raise usage_error(error) from error


def _end_with(error: SeatrialError) -> NoReturn:
    from seatrial.errors import in_one_line

    # A line each: a name that holds the end of a line would pass for another error.
    with contextlib.suppress(OSError):  # where stderr takes nothing, the code tells
        sys.stderr.write(f"error: {in_one_line(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"hint: {in_one_line(error.hint)}\n")
    sys.exit(error.exit_code)


def _end_with_os_error(error: OSError) -> NoReturn:
    """End with an error of the file system that no part of the program expected."""
    from seatrial.errors import in_one_line
    from seatrial.system.files import FULL, not_writable

    if error.filename is None:  # one of the standard streams
        _drop_output()
        _end_with(not_writable("the output", error, hint="send it to another place"))
    if error.errno in (*FULL, errno.EROFS):
        _end_with(not_writable(error.filename, error))
    sys.stderr.write(f"error: {in_one_line(str(error.filename))}: {error.strerror}\n")
    sys.stderr.write("hint: look whether the place exists, and who may read and write it\n")
    sys.exit(INPUT_OUTPUT)


class _Interrupt:
    """Raises KeyboardInterrupt and remembers it, since imports may turn it into another error."""

    seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Give standard streams that were closed (``>&-``) a place: what is written there is lost.

    Otherwise the first file that is opened would get their number, and the command's output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free: that of the stream.
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)  # a service takes the place of this process
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _drop_output() -> None:
    # Otherwise the interpreter would try to write the rest at its end, and report an error.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
