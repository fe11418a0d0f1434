"""The demonstration as a Streamlit page.

Streamlit runs a script file from the top for each click, as the module ``__main__``. That script is
this file; its last lines call the module that the application was created in.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.starlette import App
from streamlit.web.bootstrap import load_config_options

from seatrial.demo.brand import ACCENT, ICON, header
from seatrial.demo.examples import DemoExample
from seatrial.demo.exports import EXPORTS
from seatrial.demo.media import MAX_BYTES, Media, open_media
from seatrial.demo.page import AREAS, IMAGE_BUTTON, LAYOUT, NO_RIVAL, WELCOME, show
from seatrial.demo.render import annotated, annotated_name
from seatrial.demo.tables import as_markdown, boxes_table, refusal, stages_table
from seatrial.demo.workbench import FLOOR, Choice, View, Workbench
from seatrial.errors import SeatrialError
from seatrial.progress import Progress, silent

EXAMPLE_PX = 72
# By default, photos have the width of the widget, about 250 pixels.
WEBCAM = "720p"
# These override the user's config.toml. Environment variables would be read by the command
# ``streamlit run`` only.
OPTIONS = {
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "logger.level": "error",
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": MAX_BYTES // 2**20,
    "theme.primaryColor": ACCENT,
}
# Streamlit puts a box around each container.
PLACES = {area: f":is(.st-key-{area}, :has(> .st-key-{area}))" for area in AREAS}
STYLE = (
    LAYOUT.format(**PLACES | {"board": ".st-key-board"})
    + """
.stMainBlockContainer { padding: 2.5rem 2rem; max-width: 1400px; }
.stAppHeader { background: none; }
.st-key-images img { max-height: 72vh; object-fit: contain; object-position: left; }
/* A click on the image is a click on its button. */
[class*="st-key-thumbnail-"] { position: relative; }
[class*="st-key-example-"] { position: absolute; inset: 0; }
[class*="st-key-example-"] :is(div, button) { height: 100%; }
[class*="st-key-example-"] button { opacity: 0; }
@media (max-width: 767px) { .st-key-examples { flex-wrap: nowrap; overflow-x: auto; } }
[class*="st-key-thumbnail-"]:has(button:is(:hover, :focus-visible)) img {
  outline: 3px solid var(--st-primary-color, currentColor);
}
"""
)


class _Served(NamedTuple):
    workbench: Workbench
    examples: Sequence[DemoExample]
    # Streamlit starts a thread for each click, and OpenCV 5 unpacks its font in each thread that
    # draws text, which takes 20 ms: these threads stay.
    drawing: ThreadPoolExecutor


# Streamlit gives no arguments to a script, and serves one application in a process.
_served: list[_Served] = []


def create_app(workbench: Workbench, examples: Sequence[DemoExample]) -> App:
    """The page as an ASGI application."""
    load_config_options(OPTIONS)
    _served[:] = [_Served(workbench, examples, ThreadPoolExecutor(2, "seatrial-drawing"))]
    return App(Path(__file__))


def draw_page() -> None:
    """Draw the page from top to bottom."""
    workbench, examples, _ = _served[0]
    name = workbench.models.shown.facts["name"]
    st.set_page_config(page_title=f"Seatrial: {name}", page_icon=str(ICON), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    st.html(header(name))
    board = st.container(key="board")
    left, right = board.container(key="left"), board.container(key="right")
    with left.container(key="sources"):
        _draw_sources(examples)
    with left.container(key="settings"):
        choice, rival = _draw_settings(workbench)
    images, details = right.container(key="images"), right.container(key="details")
    _draw_result(workbench, choice, rival, images, details)


def _draw_sources(examples: Sequence[DemoExample]) -> None:
    # A new key for each file empties the widget, so that the next file can be dropped.
    key = f"file {st.session_state.setdefault('files', 0)}"
    st.file_uploader("Image or short video", key=key, on_change=partial(_take_file, key))
    if st.toggle("Webcam"):
        st.camera_input(
            "Webcam", key="webcam", on_change=partial(_take, "webcam"), resolution=WEBCAM
        )
    with st.container(horizontal=True, gap="small", key="examples"):
        for number, example in enumerate(examples):
            with st.container(width=EXAMPLE_PX, gap=None, key=f"thumbnail {number}"):
                st.image(example.thumbnail, width=EXAMPLE_PX)
                st.button(
                    f"Show {example.path.name}",
                    key=f"example {number}",
                    on_click=partial(_click, example),
                    width="stretch",
                )


def _draw_settings(workbench: Workbench) -> tuple[Choice, str]:
    models = workbench.models
    usual = Choice.usual(models.shown)
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
    """Take the file of a widget, or forget it."""
    file = st.session_state[key]
    _keep(file.name, file.getvalue()) if file is not None else _keep_nothing()


def _click(example: DemoExample) -> None:
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


def _draw_result(
    workbench: Workbench,
    choice: Choice,
    rival: str,
    images: DeltaGenerator,
    details: DeltaGenerator,
) -> None:
    media: Media | None = st.session_state.get("media")
    if refused := st.session_state.get("refused"):
        images.error(as_markdown(refused))
        return
    if media is None:
        images.info(WELCOME)
        return
    try:
        with images:
            page = show(workbench, media, choice, rival, _progress(media))
        views = [page.view] if page.rival is None else [page.view, page.rival]
        files = [_annotated(view) for view in views]
        images.container(key="summary").markdown(as_markdown(page.summary))
        columns, tables = images.columns(len(views)), details.columns(len(views))
        for number, (view, file) in enumerate(zip(views, files, strict=True)):
            with columns[number]:
                _draw_view(view, file, number)
            with tables[number]:
                st.html(boxes_table(view))
                st.html(stages_table(view))
    except SeatrialError as error:
        images.error(as_markdown(refusal(error)))


def _progress(media: Media) -> Progress:
    if len(media.frames) == 1:
        return silent
    bar = st.progress(0.0, "detecting")

    def show_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        bar.progress(done / total, f"detecting in frame {done} of {total}")
        if done == total:
            bar.empty()

    return show_progress


def _draw_view(view: View, file: bytes, number: int) -> None:
    # Not Markdown: it makes a link of the address of a service.
    st.html(f"<strong>{escape(view.model.title)}</strong>")
    if view.media.rate_hz is None:
        # As a data address: as a file of its own it would come 30 ms later.
        address = f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
        st.image(address, width="stretch", alt=f"{view.media.name} with boxes")
    else:
        st.video(file, autoplay=True, loop=True, muted=True)
    with st.container(horizontal=True):
        _draw_download(IMAGE_BUTTON, annotated_name(view), lambda: file, number)
        for kind, export in EXPORTS.items():
            _draw_download(kind, export.name(view), partial(export.make, view), number)


def _draw_download(kind: str, name: str, make: Callable[[], bytes], number: int) -> None:
    # The file is made at the click: browsers would fetch finished files ahead.
    key = f"{kind} of {number}"  # not by the model's name: a model can be compared with itself
    st.download_button(f"↓ {kind}", make, name, key=key, on_click="ignore")


def _annotated(view: View) -> bytes:
    """The drawn boxes of a view, kept: Streamlit runs the page for each click."""
    drawn = st.session_state.setdefault("drawn", {})
    key = (view.media.digest, view.choice)
    if drawn.get(view.model.name, (None,))[0] != key:
        drawn[view.model.name] = (key, _served[0].drawing.submit(annotated, view).result())
    result: bytes = drawn[view.model.name][1]
    return result


if __name__ == "__main__":
    # Not `draw_page` of this run: the application is in the module that was imported.
    from seatrial.demo import streamlit_app

    streamlit_app.draw_page()
