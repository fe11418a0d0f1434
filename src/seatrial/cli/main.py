"""The ``seatrial`` command: parse, call the library, print; the exit code is the verdict."""

from __future__ import annotations

import signal
import sys

from cyclopts import App

import seatrial
from seatrial.errors import SeatrialError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = App(
    name="seatrial",
    help="Take an object detector from weights to a production service, and measure it honestly.",
    version=seatrial.__version__,
)
# Named, not imported: a command loads what it needs when it is run.
COMMANDS = {
    "doctor": ("doctor:doctor", "Show hardware, engines, what works and what is missing."),
    "models": ("models:app", "Fetch, import and list models."),
    "data": ("data:app", "Lay out pictures and datasets."),
    "finetune": ("finetune:finetune", "Train a detector on your own pictures, and prove it."),
    "export": ("export:export", "Make another format or precision of a model, and prove it."),
    "detect": ("detect:detect", "Find objects in a picture."),
    "serve": ("serve:serve", "Serve a detector over HTTP."),
    "bench": ("bench:bench", "Measure a service, and explain the result."),
    "compress": ("compress:app", "Quantise a model, and prove that it stays right."),
    "evaluate": ("evaluate:evaluate", "Measure a detector's accuracy on labelled pictures."),
}
for name, (target, summary) in COMMANDS.items():
    app.command(f"seatrial.cli.{target}", name=name, help=summary)


def main() -> None:
    """Run the command line; errors become one message, a hint and an exit code."""
    # As Ctrl-C does: a benchmark that is ended takes the service with it that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except SeatrialError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
