"""The runtimes that start a deployment, by the name that ``server.runtime`` gives them."""

from __future__ import annotations

import importlib
from typing import cast

from seatrial.errors import InvalidConfig
from seatrial.serve.runtimes.base import Runtime

# Name -> module:class; the names are those of `Server.runtime` as well.
RUNTIMES = {
    "bentoml": "seatrial.serve.runtimes.bento_runtime:BentoMl",
    "triton": "seatrial.serve.runtimes.triton_runtime:TritonRuntime",
    "uvicorn": "seatrial.serve.runtimes.uvicorn_runtime:Uvicorn",
}


def runtime(name: str) -> Runtime:
    """The runtime of a name.

    Raises:
        InvalidConfig: There is none.
    """
    if name not in RUNTIMES:
        raise InvalidConfig(
            f"there is no runtime {name!r}", hint=f"one of: {', '.join(sorted(RUNTIMES))}"
        )
    module, _, kind = RUNTIMES[name].partition(":")
    return cast(Runtime, getattr(importlib.import_module(module), kind)())
