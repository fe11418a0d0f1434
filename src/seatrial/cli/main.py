"""The ``seatrial`` command: parse, call the library, print; the exit code is the verdict."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

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
    "detect": ("detect:detect", "Find objects in an image."),
    "demo": ("demo:demo", "Show a detector at work in a web page."),
    "serve": ("serve:serve", "Serve a detector over HTTP."),
    "bench": ("bench:bench", "Measure a service, and explain the result."),
    "compress": ("compress:app", "Quantise a model, and prove that it stays right."),
    "evaluate": ("evaluate:evaluate", "Measure a detector's accuracy on labelled images."),
}


def build() -> App:
    """The command line."""
    from cyclopts import App, Parameter

    import seatrial
    from seatrial.cli.help import HelpFormatter, default_text

    app = App(
        name="seatrial",
        help="Take an object detector from weights to a production service, and measure it "
        "honestly.",
        version=seatrial.__version__,
        suppress_keyboard_interrupt=False,
        # The list of commands needs no Markdown, whose renderer takes a quarter of the time that
        # --help takes. The commands keep it: it fills the lines of wrapped docstrings.
        help_format="plaintext",
        help_formatter=HelpFormatter(),
        # An empty list is never what a command works on: no --empty-x.
        default_parameter=Parameter(negative_iterable=(), show_default=default_text),
    )
    for name, (target, summary) in COMMANDS.items():
        # A group of commands (an App) says so itself.
        form = {} if target.endswith(":app") else {"help_format": "markdown"}
        app.command(f"seatrial.cli.{target}", name=name, help=summary, **form)
    return app


def main() -> None:
    """Run the command line; errors become one message, a hint and an exit code."""
    # Ended like by Ctrl-C: a benchmark then ends the service that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    interrupt = _Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    try:
        from seatrial.errors import SeatrialError

        try:
            build()()
            sys.stdout.flush()
        except SeatrialError as error:
            if interrupt.seen:
                raise KeyboardInterrupt from error
            sys.stderr.write(f"error: {error.message}\n")
            if error.hint:
                sys.stderr.write(f"hint: {error.hint}\n")
            sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has closed it
        _drop_output()
        sys.exit(0)
    except OSError as error:
        if error.strerror is None:
            raise
        what = error.filename
        if what is None:  # no file: one of the standard streams
            _drop_output()
            what = "the output cannot be written"
        sys.stderr.write(f"error: {what}: {error.strerror}\n")
        sys.exit(INPUT_OUTPUT)


class _Interrupt:
    """Raises KeyboardInterrupt and remembers it, since imports may turn it into another error."""

    seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt


def _drop_output() -> None:
    # Otherwise the interpreter would try to write the rest at its end, and report an error.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
