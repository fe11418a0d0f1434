"""``seatrial demo``: a web page that shows a detector at work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seatrial.cli.console import err, home, progress, store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.contract import Deployment
    from seatrial.demo.examples import Example
    from seatrial.demo.models import Model, Models

FrontEnd = Literal["gradio", "streamlit"]
# Read by Gradio and what it is made of, at import.
AT_HOME = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def demo(
    front_end: FrontEnd,
    *,
    options: DeploymentOptions | None = None,
    url: str | None = None,
    compare: str | None = None,
    examples: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Show a detector at work in a web page; Ctrl-C ends it.

    Takes pictures, short videos and the webcam; draws and lists the boxes, tells the time of each
    stage, compares two models on one picture, and gives what it found as JSON, COCO and YOLO.
    Nothing leaves this machine.

    Args:
        front_end: gradio or streamlit; both show the same.
        options: The model to show, and how to run it.
        url: A service that runs, in place of a model: http://127.0.0.1:3000.
        compare: A model or a service to put beside it. The models of the store can be chosen in
            the page in any case.
        examples: Folder of pictures and videos to click
            [default: the folder examples of $SEATRIAL_HOME, if it is there].
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """
    from seatrial.demo import server
    from seatrial.demo.workbench import Workbench
    from seatrial.extras import require
    from seatrial.serve.launch import check_port, free_port

    given = options or DeploymentOptions()
    opener = _opener(given, url)
    check_port(host, port)
    port = port or free_port(host)
    with tempfile.TemporaryDirectory(prefix="seatrial-demo-") as scratch:
        os.environ.update(AT_HOME, GRADIO_TEMP_DIR=f"{scratch}/gradio")
        with ThreadPoolExecutor(1) as beside:
            opening = beside.submit(_open_models, opener, given, compare)
            try:
                # Takes seconds, as compiling a model does: so both at a time.
                require(front_end, extra="demo", purpose=f"the {front_end} page")
            except BaseException:
                beside.submit(lambda: opening.result().close())
                raise
        with opening.result() as models:
            shown = _examples(examples)
            if front_end == "gradio":
                from seatrial.demo import gradio_app

                app: Any = gradio_app.create_app(Workbench(models), shown, Path(scratch))
            else:
                from seatrial.demo import streamlit_app

                app = streamlit_app.create_app(Workbench(models), shown)
            progress(models.shown.title)
            server.run(app, host, port, lambda: _tell(host, port))


def _opener(options: DeploymentOptions, url: str | None) -> Callable[[], Model]:
    """What opens the model that is shown: said before anything is loaded if there is none."""
    from seatrial.demo.models import open_service

    if url is None:
        deployment = options.resolve()
        return partial(_open, deployment.model, deployment)
    if options.model is not None or options.deployment is not None:
        raise InvalidConfig("a model and a service are given", hint="--model or --url, not both")
    return partial(open_service, url)


def _open(model: str, deployment: Deployment) -> Model:
    from seatrial.demo.models import open_artifact, open_service
    from seatrial.lifecycle import acquire

    if model.startswith(("http://", "https://")):
        return open_service(model)
    return open_artifact(model, acquire.resolve(store(), model), deployment)


def _open_models(
    opener: Callable[[], Model], options: DeploymentOptions, compare: str | None
) -> Models:
    from seatrial.demo.models import Models

    shown = opener()
    names = dict.fromkeys([*([compare] if compare else []), *store().names()])
    names.pop(shown.name, None)
    if "url" not in shown.facts:
        names.pop(shown.facts["name"], None)
    rivals = {name: partial(_open, name, replace(options, model=name).resolve()) for name in names}
    models = Models(shown, rivals, first_rival=compare)
    if compare is not None:
        try:
            models.rival(compare)  # wrong names are told now, not in the page
        except BaseException:
            models.close()
            raise
    return models


def _examples(folder: Path | None) -> list[Example]:
    from seatrial.demo.examples import find_examples

    usual = home() / "examples"
    if folder is not None or usual.is_dir():
        return find_examples(folder or usual)
    progress(f"no examples to click; seatrial data sample photos -o {usual} makes some")
    return []


def _tell(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    err.print(f"http://{shown}:{port}  (Ctrl-C ends)", highlight=False)
