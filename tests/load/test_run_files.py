"""A client that has no descriptor left for a connection."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, resource, sys
from yarl import URL
from seatrial.errors import GeneratorFailed
from seatrial.load.arrivals import ClosedLoop, Poisson
from seatrial.load.run import run_load
from seatrial.load.target import Body
from seatrial.load.window import Load

class Quiet:
    def opened(self): pass
    closed = opened
    def tick(self):
        if sys.argv[1] == "observer":
            open("/proc/self/statm").close()

async def never(reader, writer):
    await asyncio.Event().wait()

async def main(law):
    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = Load(arrivals=law, measure_s=30.0, warmup_s=0.0, timeout_s=60.0)
    url = URL(f"http://127.0.0.1:{port}/detect")
    try:
        await run_load(url, [Body(b"x", {})], load, Quiet(), lambda window: None)
    except GeneratorFailed as error:
        print(error.message, "|", error.hint)

resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
laws = {"open": Poisson(400.0), "closed": ClosedLoop(200), "observer": ClosedLoop(1)}
if sys.argv[1] == "observer":  # none is left for it, once the connection is there
    async def held(reader, writer):
        try:
            while True:
                kept.append(open("/dev/null"))
        except OSError:
            await asyncio.Event().wait()
    kept, never = [], held
asyncio.run(main(laws[sys.argv[1]]))
"""


def test_descriptors_that_are_used_up_are_the_clients_own_failure() -> None:
    for law in ("open", "closed", "observer"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, law], capture_output=True, text=True, check=False
        )
        assert "the client cannot open one more connection or file" in done.stdout, done.stderr
        assert "ulimit -n" in done.stdout
