"""The demonstration as a Streamlit page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
from streamlit.starlette import App
from streamlit.web.bootstrap import load_config_options

from seatrial.demo.examples import Example
from seatrial.demo.exports import EXPORTS
from seatrial.demo.media import MAX_BYTES, Media, open_media
from seatrial.demo.page import NO_RIVAL, PICTURE, WELCOME, show
from seatrial.demo.render import annotated, annotated_name
from seatrial.demo.tables import boxes_table, refusal, stages_table
from seatrial.demo.workbench import FLOOR, Choice, View, Workbench
from seatrial.errors import SeatrialError

EXAMPLE_PX = 76
# Without it, photos have the width of the widget, some 250 pixels.
WEBCAM = "720p"
# Stronger than a person's own config.toml. Environment variables would count for the command
# ``streamlit run`` alone.
OPTIONS = {
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "logger.level": "error",
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": MAX_BYTES // 2**20,
}
STYLE = "<style>.stMainBlockContainer { padding-top: 3rem; }</style>"


class _Served(NamedTuple):
    workbench: Workbench
    examples: Sequence[Example]
    # Streamlit begins a thread for each click, and OpenCV 5 unpacks its font anew in each thread
    # that writes: 20 ms.
    drawing: ThreadPoolExecutor


# Streamlit runs a script and hands it nothing; and it serves one application a process.
_served: list[_Served] = []


def create_app(workbench: Workbench, examples: Sequence[Example]) -> App:
    """The page as an ASGI application.

    Args:
        workbench: What is shown.
        examples: Ready to click.
    """
    load_config_options(OPTIONS)
    _served[:] = [_Served(workbench, examples, ThreadPoolExecutor(2, "seatrial-drawing"))]
    return App(Path(__file__).with_name("streamlit_page.py"))


def draw_page() -> None:
    """The whole page, from top to bottom."""
    workbench, examples, _ = _served[0]
    name = workbench.models.shown.facts["name"]
    st.set_page_config(page_title=f"Seatrial: {name}", layout="wide")
    st.html(STYLE)
    st.title(name)
    with st.sidebar:
        choice, rival = _draw_settings(workbench)
    sources, seen = st.columns([1, 2], gap="medium")
    with sources:
        _draw_sources(examples)
    with seen:
        _draw_result(workbench, choice, rival)


def _draw_sources(examples: Sequence[Example]) -> None:
    # A new key for each file: it is named beside the result, and here the next can be dropped.
    key = f"file {st.session_state.setdefault('files', 0)}"
    st.file_uploader("Picture or short video", key=key, on_change=partial(_take_file, key))
    if st.toggle("Webcam"):
        st.camera_input(
            "Webcam", key="webcam", on_change=partial(_take, "webcam"), resolution=WEBCAM
        )
    with st.container(horizontal=True, gap="small"):
        for number, example in enumerate(examples):
            with st.container(width=EXAMPLE_PX, gap=None):
                st.image(example.thumbnail, width=EXAMPLE_PX)
                key = f"example {number}"
                st.button("Show", key=key, on_click=partial(_click, example), width="stretch")


def _draw_settings(workbench: Workbench) -> tuple[Choice, str]:
    models, usual = workbench.models, Choice()
    confidence = st.slider("Confidence", FLOOR, 1.0, usual.confidence, 0.01)
    iou = st.slider(
        "IoU",
        0.0,
        1.0,
        usual.iou,
        0.01,
        help="Boxes of one class that overlap more are one object.",
    )
    classes = st.multiselect("Classes", models.shown.labels, placeholder="All")
    rival = NO_RIVAL
    if models.rivals:
        names = [NO_RIVAL, *models.rivals]
        rival = st.selectbox("Compare with", names, names.index(models.first_rival or NO_RIVAL))
    return Choice(confidence, iou, tuple(classes)), rival


def _take_file(key: str) -> None:
    st.session_state.files += 1
    _take(key)


def _take(key: str) -> None:
    """A file was given by one of the widgets, or taken back."""
    file = st.session_state[key]
    _keep(file.name, file.getvalue()) if file is not None else _keep_nothing()


def _click(example: Example) -> None:
    _keep(example.path.name, example.path.read_bytes())


def _keep(name: str, data: bytes) -> None:
    _keep_nothing()
    try:
        st.session_state.media = open_media(name, data)
    except SeatrialError as error:
        st.session_state.refused = refusal(error)


def _keep_nothing() -> None:
    st.session_state.media, st.session_state.refused = None, ""
    st.session_state.drawn = {}


def _draw_result(workbench: Workbench, choice: Choice, rival: str) -> None:
    media: Media | None = st.session_state.get("media")
    if refused := st.session_state.get("refused"):
        st.error(refused)
        return
    if media is None:
        st.info(WELCOME)
        return
    try:
        page = show(workbench, media, choice, rival, _progress(media))
        views = [page.view] if page.rival is None else [page.view, page.rival]
        files = [_annotated(view) for view in views]
        st.markdown(page.said)
        columns = st.columns(len(views))
        for number, (view, file) in enumerate(zip(views, files, strict=True)):
            with columns[number]:
                _draw_view(view, file, number)
    except SeatrialError as error:
        st.error(refusal(error))


def _progress(media: Media) -> Any:
    if len(media.frames) == 1:
        return None
    bar = st.progress(0.0, "looking at the frames")

    def told(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        bar.progress(done / total, f"looking at the frames: {done} of {total}")
        if done == total:
            bar.empty()

    return told


def _draw_view(view: View, file: bytes, number: int) -> None:
    st.markdown(f"**{view.model.title}**")
    if view.media.rate_hz is None:
        st.image(_inline(file), width="stretch", alt=f"{view.media.name} with boxes")
    else:
        st.video(file, autoplay=True, loop=True, muted=True)
    with st.container(horizontal=True):
        _draw_download(PICTURE, annotated_name(view), lambda: file, number)
        for kind, export in EXPORTS.items():
            _draw_download(kind, export.name(view), partial(export.make, view), number)
    st.html(boxes_table(view))
    st.html(stages_table(view))


def _inline(jpeg: bytes) -> str:
    """A picture inside the page: a file of its own comes 30 ms later."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _draw_download(kind: str, name: str, make: Callable[[], bytes], number: int) -> None:
    # Made when it is asked for: browsers fetch finished files ahead, each one of them.
    key = f"{kind} of {number}"  # not by name: a model can be compared with itself
    st.download_button(f"↓ {kind}", make, name, key=key, on_click="ignore")


def _annotated(view: View) -> bytes:
    """The picture of a view, drawn once: Streamlit runs the page for every click."""
    drawn = st.session_state.setdefault("drawn", {})
    key = (view.media.digest, view.choice)
    if drawn.get(view.model.name, (None,))[0] != key:
        drawn[view.model.name] = (key, _served[0].drawing.submit(annotated, view).result())
    result: bytes = drawn[view.model.name][1]
    return result
