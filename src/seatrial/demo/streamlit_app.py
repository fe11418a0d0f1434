"""The demonstration as a Streamlit page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.starlette import App
from streamlit.web.bootstrap import load_config_options

from seatrial.demo.examples import Example
from seatrial.demo.exports import EXPORTS
from seatrial.demo.media import MAX_BYTES, Media, open_media
from seatrial.demo.page import NO_RIVAL, WELCOME, show
from seatrial.demo.render import annotated
from seatrial.demo.tables import boxes_table, refusal, stages_table
from seatrial.demo.workbench import FLOOR, Choice, View, Workbench
from seatrial.errors import SeatrialError

EXAMPLE_PX = 76
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
# Streamlit runs a script and hands it nothing; and it serves one application a process.
_served: list[tuple[Workbench, Sequence[Example]]] = []


def create_app(workbench: Workbench, examples: Sequence[Example]) -> App:
    """The page as an ASGI application.

    Args:
        workbench: What is shown.
        examples: Ready to click.
    """
    load_config_options(OPTIONS)
    _served[:] = [(workbench, examples)]
    return App(Path(__file__).with_name("streamlit_page.py"))


def draw_page() -> None:
    """The whole page, from top to bottom."""
    workbench, examples = _served[0]
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
    st.file_uploader("Picture or short video", key="file", on_change=partial(_take, "file"))
    if st.toggle("Webcam"):
        st.camera_input("Webcam", key="webcam", on_change=partial(_take, "webcam"))
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
        st.markdown(page.said)
        views = [page.view] if page.rival is None else [page.view, page.rival]
        for column, view in zip(st.columns(len(views)), views, strict=True):
            with column:
                _draw_view(view)
    except SeatrialError as error:
        st.error(refusal(error))


def _progress(media: Media) -> Any:
    if len(media.frames) == 1:
        return None
    bar = st.progress(0.0, "looking at the frames")

    def told(done: int, total: int) -> None:
        bar.progress(done / total, f"looking at the frames: {done} of {total}")
        if done == total:
            bar.empty()

    return told


def _draw_view(view: View) -> None:
    st.markdown(f"**{view.model.title}**")
    name, data = _annotated(view)
    clip = view.media.rate_hz is not None
    if clip:
        st.video(data, autoplay=True, loop=True, muted=True)
    else:
        st.image(data, width="stretch")
    buttons = st.container(horizontal=True)
    key = view.model.name
    buttons.download_button("↓ Picture", data, name, key=f"{key} picture", on_click="ignore")
    for kind, make in EXPORTS.items():
        name, data = make(view)
        buttons.download_button(f"↓ {kind}", data, name, key=f"{key} {kind}", on_click="ignore")
    st.html(boxes_table(view))
    st.html(stages_table(view))


def _annotated(view: View) -> tuple[str, bytes]:
    """The picture of a view, drawn once: Streamlit runs the page for every click."""
    drawn = st.session_state.setdefault("drawn", {})
    key = (view.media.digest, view.choice)
    if drawn.get(view.model.name, (None,))[0] != key:
        drawn[view.model.name] = (key, annotated(view))
    result: tuple[str, bytes] = drawn[view.model.name][1]
    return result
