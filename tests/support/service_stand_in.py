"""A small detection service with a known service time, run as a process of its own.

    python service_stand_in.py '{"hold_ms": 20, "lanes": 1}'

Prints its port. Answers POST /detect after holding one of `lanes` for `hold_ms`, and
GET /seen with what it saw. `behaviour`:
  good     as above, with stage times
  plain    the same without stage times, /model and /readyz, another shape of answer
  busy     503 to every second image
  broken   503 to every image after the first
  refuse   422 to every image
  hang     never answers after the first image
  die      the process ends at image number `after`
  field    wants the multipart field `file` at /v1/predict
  loading  not ready for ever
  uneven   as good, and a second more for every second image
  limited  429 to every image
  moved    307 to every image
`workers` forks as many children that share the socket; the parent only waits.
`burn` keeps a core busy while a lane is held instead of sleeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import ClassVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

OPTIONS = {"behaviour": "good", "hold_ms": 20.0, "lanes": 1, "after": 0, "workers": 0, "burn": 0}
OPTIONS |= json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
BEHAVIOUR = OPTIONS["behaviour"]
MODEL = {
    "name": "tiny<script>",
    "engine": "openvino",
    "device": "cpu",
    "precision": "f32",
    "labels": [f"class {n}" for n in range(80)],
    "layout": {"workers": 1, "instances": 1, "threads": 1},
}


class Seen:
    images = 0
    peers: ClassVar[set[tuple[str, int]]] = set()
    bodies: ClassVar[set[int]] = set()
    most_at_once = at_once = 0


async def hold() -> float:
    begun = time.perf_counter()
    if OPTIONS["burn"]:
        await asyncio.to_thread(spin, OPTIONS["hold_ms"] / 1e3)
    else:
        await asyncio.sleep(OPTIONS["hold_ms"] / 1e3)
    return (time.perf_counter() - begun) * 1e3


def spin(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


async def detect(request: Request) -> Response:
    begun = time.perf_counter()
    Seen.at_once += 1
    Seen.most_at_once = max(Seen.most_at_once, Seen.at_once)
    try:
        return await answer(request, begun)
    finally:
        Seen.at_once -= 1


async def answer(request: Request, begun: float) -> Response:
    body = await request.body()
    Seen.images += 1
    Seen.peers.add((request.client.host, request.client.port))
    Seen.bodies.add(hash(body))
    if BEHAVIOUR == "field":
        form = await request.form()
        if "file" not in form or not (await form["file"].read()).startswith(b"\xff\xd8"):
            return JSONResponse({"error": {"message": "field 'file' is missing"}}, 422)
    if BEHAVIOUR == "refuse":
        return JSONResponse({"error": {"code": "InvalidImage", "message": "not to my taste"}}, 422)
    if BEHAVIOUR == "busy" and Seen.images % 2 == 0:
        await asyncio.sleep(OPTIONS["hold_ms"] / 1e3)
        return JSONResponse({"error": {"code": "Overloaded", "message": "full"}}, 503)
    if BEHAVIOUR == "broken" and Seen.images > 1:
        await asyncio.sleep(0.01)
        return JSONResponse({"error": {"code": "Overloaded", "message": "full"}}, 503)
    if BEHAVIOUR == "hang" and Seen.images > 1:
        await asyncio.Event().wait()
    if BEHAVIOUR == "die" and Seen.images >= OPTIONS["after"]:
        os._exit(1)
    if BEHAVIOUR == "limited":
        return JSONResponse({"error": {"message": "not so fast"}}, 429)
    if BEHAVIOUR == "moved":
        return Response(status_code=307, headers={"location": "/seen"})
    if BEHAVIOUR == "uneven" and Seen.images % 2 == 0:
        await asyncio.sleep(1)
    waited = time.perf_counter()
    async with LANES:
        queue_ms = (time.perf_counter() - waited) * 1e3
        infer_ms = await hold()
    if BEHAVIOUR == "plain":
        return JSONResponse({"predictions": []})
    total_ms = (time.perf_counter() - begun) * 1e3
    timing = {"decode": 0.0, "queue": queue_ms, "infer": infer_ms, "total": total_ms}
    box = {"box": [0, 0, 1, 1], "confidence": 0.5, "class_id": 0, "label": "class 0"}
    return JSONResponse({"detections": [box, box], "timing_ms": timing})


async def seen(_: Request) -> Response:
    return JSONResponse(
        {
            "images": Seen.images,
            "connections": len(Seen.peers),
            "different": len(Seen.bodies),
            "most_at_once": Seen.most_at_once,
        }
    )


async def some_list(_: Request) -> Response:
    return JSONResponse([1, 2])


async def text(_: Request) -> Response:
    return PlainTextResponse("none of your business")


async def ready(_: Request) -> Response:
    return PlainTextResponse("", 503 if BEHAVIOUR == "loading" else 200)


async def model(_: Request) -> Response:
    return JSONResponse(MODEL)


LANES = asyncio.Semaphore(OPTIONS["lanes"])
ROUTES = [Route("/seen", seen), Route("/list", some_list), Route("/text", text)]
ROUTES += [Route("/v1/predict" if BEHAVIOUR == "field" else "/detect", detect, methods=["POST"])]
if BEHAVIOUR != "plain":
    ROUTES += [Route("/model", model), Route("/readyz", ready)]


def end(children: list[int]) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):  # one may be gone already
            os.kill(child, signal.SIGTERM)


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    children = []
    for _ in range(OPTIONS["workers"]):
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    if not children or len(children) < OPTIONS["workers"]:
        if not OPTIONS["workers"]:
            print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(
            Starlette(routes=ROUTES), log_level="critical", timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listener])
        return
    signal.signal(signal.SIGTERM, lambda *_: end(children))
    print(listener.getsockname()[1], flush=True)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
