"""One server process without a supervisor, for containers and systemd.

    python -m seatrial.serve.runtimes.alone DEPLOYMENT.TOML

The process may be the first of its container (PID 1): it then leaves no zombies, and SIGTERM ends
it at any time. Whoever started it starts it again when it ends with another code than 0.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig, SeatrialError
from seatrial.serve import log
from seatrial.serve.address import PORT, bound, urls
from seatrial.serve.grpc_port import claim
from seatrial.serve.log import say
from seatrial.serve.origin import Origin
from seatrial.serve.parent import end_with_owner
from seatrial.serve.runtimes import notify, starts
from seatrial.serve.runtimes.ending import say_ending
from seatrial.serve.runtimes.handover import take_signals
from seatrial.serve.runtimes.hangup import hangup
from seatrial.serve.runtimes.supervise import INTERRUPTED
from seatrial.system.children import adopt

if TYPE_CHECKING:
    from seatrial.serve.reload import Coordinator


class _Ending:
    """Signals that end the process: each raises `SystemExit` wherever the main thread is.

    Where that is a destructor or a callback of a library, the exit is dropped, or the library makes
    an error of its own of it.

    Attributes:
        asked: Number of the last signal; None before one came.
        ready: Whether the service was ready before: Ctrl-C is then an end as any other.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.ready = False

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        first, self.asked = self.asked is None, number
        if number == signal.SIGINT and not self.ready:
            if first:
                say("info", "interrupted", "interrupted")
            sys.exit(INTERRUPTED)
        say_ending(number)
        sys.exit(0)

    def catch_up(self) -> None:
        """Raise an exit that was dropped."""
        if self.asked is not None:
            self.take(self.asked)


def main(deployment_file: str) -> None:
    """Serve until a signal ends it.

    Args:
        deployment_file: TOML file; a relative model path in it starts at the file's folder.
    """
    ending = _Ending()
    # The kernel ends the first process of a container by no signal that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ending.take)
    hangup().listen()
    take_signals()
    if os.getpid() == 1:
        adopt()
    end_with_owner()
    try:
        from seatrial.serve.reload_commands import listen_or_say
        from seatrial.serve.runtimes.served import Served
        from seatrial.serve.runtimes.server import BACKLOG, serve

        coordinator = _own_coordinator(Path(deployment_file))
        served = Served(Path(deployment_file))
        served.deployment = one_process(served.deployment)
        server = served.deployment.server
        # It listens from now on, and not once the model is loaded: of two services that are started
        # at the same moment one ends here. Requests wait until the model is there.
        with bound(server.host, server.port, PORT, backlog=BACKLOG) as listener:
            claim(server)
            service = served.open()
            served.start = lambda: service
            if coordinator is not None:
                coordinator.serves_itself(service.health.fail)
                # One set of tokens: two would read the file, and tell of it, twice.
                listen_or_say(coordinator, service.tokens)

            def on_ready() -> None:
                if ending.asked is not None:
                    signal.raise_signal(ending.asked)  # by the server's handlers now
                    return
                ending.ready = True
                if coordinator is not None:
                    hangup().reload = coordinator.reload_soon
                log.say("info", "ready", f"ready: {urls(server)}")
                notify.notify(notify.READY)

            async def while_alive() -> None:
                if not service.health.failure:
                    notify.notify(notify.ALIVE)

            def on_end(number: int) -> None:
                notify.notify(notify.STOPPING)
                if ending.ready:  # or else `ending` has said it
                    say_ending(number)

            served.drain.on_begin = on_end
            ending.catch_up()
            every_s = notify.alive_every_s()
            serve(
                served,
                listener,
                on_ready=on_ready,
                on_signal=ending.take,
                while_alive=while_alive if every_s else None,
                alive_every_s=every_s or 0.0,
            )
    except SeatrialError as error:
        ending.catch_up()
        message = f"the service did not start: {error.message}"
        log.say("error", "start_failed", message, error.hint)
        sys.exit(error.exit_code)
    except Exception:
        ending.catch_up()
        logging.getLogger(__name__).exception("the service failed")
        sys.exit(1)


def _own_coordinator(deployment_file: Path) -> Coordinator | None:
    """The coordinator of this process alone; None where there is no temporary folder."""
    from seatrial.serve.reload import Coordinator

    try:
        starts.supervise()
    except OSError as error:
        reason = f"no commands are taken: no temporary folder: {error.strerror}"
        say("warning", "reload", reason)
        hangup().reload = lambda: say("warning", "reload", reason)
        return None
    return Coordinator(deployment_file, starts.own_folder(), Origin.of(os.environ))


def one_process(deployment: Deployment) -> Deployment:
    """The deployment with one server process.

    Raises:
        InvalidConfig: It asks for several.
    """
    if (deployment.layout.workers or 1) > 1:
        raise InvalidConfig(
            f"the runtime uvicorn is one process; layout.workers is {deployment.layout.workers}",
            hint="leave layout.workers out, or take the runtime bentoml (--on bentoml)",
        )
    layout = msgspec.structs.replace(deployment.layout, workers=1)
    return msgspec.structs.replace(deployment, layout=layout)


if __name__ == "__main__":
    main(*sys.argv[1:])
