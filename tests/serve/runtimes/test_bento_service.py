"""The BentoML service: its application is ours alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.serve.service_folder import environment, write_service

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]

INSPECT = """
import asyncio, json, sys
from pathlib import Path
import bentoml
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from seatrial.serve.runtimes.bento import service

passed = {"TimeoutMiddleware": [], "OpenTelemetryMiddleware": []}
for kind in (TimeoutMiddleware, OpenTelemetryMiddleware):
    async def recorded(self, scope, receive, send, real=kind.__call__, name=kind.__name__):
        if scope["type"] == "http":
            passed[name].append(scope["path"])
        await real(self, scope, receive, send)
    kind.__call__ = recorded

ours = service(Path(sys.argv[1]))
app = ours.to_asgi()
theirs = bentoml.Service.to_asgi(ours)
photo = Path(sys.argv[2]).read_bytes()


async def request(path, method="POST", body=b"", app=app):
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
             "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "root_path": ""}
    await app(scope, receive, send)
    return sent[0]["status"]


def timers():
    return sum(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)


async def main():
    inbox = asyncio.Queue()
    started, stopped = asyncio.Event(), asyncio.Event()

    async def send(message):
        (started if "startup" in message["type"] else stopped).set()

    life = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, inbox.get, send))
    await inbox.put({"type": "lifespan.startup"})
    await started.wait()
    statuses = [await request("/detect", body=photo) for _ in range(50)]
    statuses += [await request("/detect.jpg", body=photo), await request("/model", "GET"),
                 await request("/livez", "GET"), await request("/nothing", "GET")]
    after_ours = timers()
    statuses.append(await request("/livez", "GET", app=theirs))
    result = {"statuses": statuses, "timers": after_ours, "timers_of_theirs": timers(),
              "passed": passed}
    await inbox.put({"type": "lifespan.shutdown"})
    await stopped.wait()
    await life
    print(json.dumps(result))


asyncio.run(main())
"""


def test_no_request_of_ours_passes_the_middleware_that_leaks_timers(
    tiny_artifact: Artifact, tmp_path: Path, photo: bytes
) -> None:
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    (tmp_path / "photo.jpg").write_bytes(photo)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INSPECT, folder / "deployment.toml",
         tmp_path / "photo.jpg"],
        env=environment(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["statuses"] == [200] * 53 + [404, 200]
    assert result["timers"] == 0
    # The probe sees the middleware where it is: BentoML's own routes pass it, and leave a timer.
    assert result["passed"] == {
        "TimeoutMiddleware": ["/livez"],
        "OpenTelemetryMiddleware": ["/livez"],
    }
    assert result["timers_of_theirs"] == 1
