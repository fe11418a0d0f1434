"""``seatrial demo``: a web page that shows a detector at work."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seatrial.cli.console import err, home, progress, store
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.running import check_named
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.demo.examples import DemoExample
    from seatrial.demo.workbench import Workbench
    from seatrial.deployment import Deployment

FrontEnd = Literal["gradio", "streamlit"]
# Gradio and its dependencies read these at import.
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def demo(
    front_end: FrontEnd,
    *,
    options: DeploymentOptions | None = None,
    url: str | None = None,
    credentials: CredentialOptions | None = None,
    compare: str | None = None,
    examples: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Show a detector at work in a web page; Ctrl-C ends it.

    The page takes images, short videos and the webcam. It draws and lists the boxes, shows the
    time of each stage, compares two models on one image, and gives the boxes as JSON, COCO and
    YOLO files. Nothing is sent to another machine.

    Args:
        front_end: gradio or streamlit; both pages have the same content.
        options: The model to show, and how to run it.
        url: Address of a running service to show in place of a model: http://127.0.0.1:3000.
        credentials: What it wants to see.
        compare: A model or the address of a service to compare with. Without it, a model of the
            store can be chosen in the page.
        examples: Folder of images and videos to click; those in which the model finds something
            [default: the folder examples in $SEATRIAL_HOME, if it exists].
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """
    from seatrial.demo import opening, server
    from seatrial.demo.examples import telling
    from seatrial.demo.workbench import Workbench
    from seatrial.deployment import server_of
    from seatrial.serve.address import check_port, free_port
    from seatrial.system.extras import require

    given = options or DeploymentOptions()
    check_named(url, given)
    shown = (credentials or CredentialOptions()).read(url)

    def deployment_of(name: str) -> Deployment:
        return replace(given, model=name).resolve()

    server_of(host=host, port=port)
    check_port(host, port)
    port = port or free_port(host)
    if url is None:
        model = opening.opener(given.resolve().model, store(), deployment_of)
    elif given.model is None and given.deployment is None:
        model = opening.service(url, shown)
    else:
        raise InvalidConfig(
            "a model and a service were given", hint="give --model or --url, not both"
        )
    rival = None if compare is None else opening.opener(compare, store(), deployment_of)
    candidates = _examples(examples)
    with tempfile.TemporaryDirectory(prefix="seatrial-demo-") as scratch:
        os.environ.update(OFFLINE, GRADIO_TEMP_DIR=f"{scratch}/gradio")
        with ThreadPoolExecutor(1) as beside:
            opened = beside.submit(opening.open_models, model, rival, store(), deployment_of)
            clear = beside.submit(lambda: telling(candidates, opened.result().shown))
            try:
                # The import takes seconds, and so does compiling a model: they run side by side.
                require(front_end, extra="demo", purpose=f"the {front_end} page")
            except BaseException:
                beside.submit(lambda: opened.result().close())
                raise
        with opened.result() as models:
            app = _app(front_end, Workbench(models), clear.result(), Path(scratch))
            progress(models.shown.title)
            server.run(app, host, port, lambda: _print_address(host, port))


def _app(
    front_end: FrontEnd, workbench: Workbench, examples: list[DemoExample], scratch: Path
) -> Any:
    if front_end == "gradio":
        from seatrial.demo import gradio_app

        return gradio_app.create_app(workbench, examples, scratch)
    from seatrial.demo import streamlit_app

    return streamlit_app.create_app(workbench, examples)


def _examples(folder: Path | None) -> list[DemoExample]:
    from seatrial.demo.examples import CANDIDATES, find_examples

    usual = home() / "examples"
    if folder is not None or usual.is_dir():
        return find_examples(folder or usual, CANDIDATES)
    progress(f"no example images; to get some: seatrial data sample photos -o {usual}")
    return []


def _print_address(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    err.print(f"http://{shown}:{port}  (Ctrl-C ends)", highlight=False)
