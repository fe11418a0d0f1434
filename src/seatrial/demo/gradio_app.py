"""The demonstration as a Gradio page."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr

from seatrial.demo.examples import Example
from seatrial.demo.exports import EXPORTS
from seatrial.demo.media import MAX_BYTES, Media, open_media
from seatrial.demo.page import NO_RIVAL, PICTURE, WELCOME, show
from seatrial.demo.render import annotated, annotated_name
from seatrial.demo.tables import boxes_table, refusal, stages_table
from seatrial.demo.workbench import FLOOR, Choice, View, Workbench
from seatrial.errors import SeatrialError
from seatrial.progress import Progress, silent

KEPT_RESULTS = 64
FORGET_AFTER_S = 3600
# On a phone what was seen comes right below what was given, and the settings below that.
CSS = """
.gradio-container { max-width: 1400px !important; }
#board { display: grid; grid-template: "sources" "seen" "settings" / minmax(0, 1fr); gap: 16px; }
#sources { grid-area: sources; } #seen { grid-area: seen; } #settings { grid-area: settings; }
@media (min-width: 768px) {
  #board { grid-template: "sources seen" auto "settings seen" 1fr / minmax(0, 1fr) minmax(0, 2fr); }
}
#examples .grid-wrap { max-height: none; min-height: 0; height: auto; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); }
.model:not(:has(img)):not(:has(video)) { display: none; }
.picture:not(:has(img)), .clip:not(:has(video)) { display: none; }
.gradio-container :is(h1, strong) { font-weight: 600; }  /* the boldest that comes with it */
"""

PROGRESS = gr.Progress()  # as a default value, Gradio's way to ask for it

Updates = dict[Any, Any]


def create_app(workbench: Workbench, examples: Sequence[Example], folder: Path) -> Any:
    """The page as an ASGI application.

    Args:
        workbench: What is shown.
        examples: Ready to click.
        folder: For the files that browsers fetch; the caller removes it.
    """
    gr.set_static_paths(folder)  # else each file is hashed and copied on its way
    page = _GradioPage(workbench, examples, _Files(folder))
    # Without FastAPI's own pages of documentation: they load scripts from elsewhere.
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        allowed_paths=[str(folder)],
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        theme=gr.themes.Default(),
        css=CSS,
    )


class _Files:
    """Files for the browser: Gradio hands out paths, not bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._results: deque[Path] = deque()
        self._lock = threading.Lock()

    def keep(self, name: str, data: bytes) -> str:
        """A file that stays."""
        path = self._folder / name
        path.write_bytes(data)
        return str(path)

    def results_of(self, view: View) -> dict[str, str]:
        """Button -> path of its file; those of the last views are kept."""
        home = Path(tempfile.mkdtemp(dir=self._folder))
        with self._lock:
            self._results.append(home)
            old = self._results.popleft() if len(self._results) > KEPT_RESULTS else None
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        paths = {PICTURE: home / annotated_name(view)}
        paths[PICTURE].write_bytes(annotated(view))
        for kind, export in EXPORTS.items():
            paths[kind] = home / export.name(view)
            paths[kind].write_bytes(export.make(view))
        return {button: str(path) for button, path in paths.items()}


class _Column:
    """Where one model's view is shown. In sight while it holds a picture or a video: see `CSS`.

    Hiding it by an update of a component's properties would cost 3 ms for each of them; so does
    leaving one out. Plain values for all cost nothing.
    """

    def __init__(self) -> None:
        self.title = gr.Markdown()
        self.picture = gr.Image(
            label="Boxes",
            show_label=False,
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            elem_classes="picture",
        )
        self.clip = gr.Video(
            label="Boxes",
            show_label=False,
            interactive=False,
            autoplay=True,
            loop=True,
            buttons=[],
            elem_classes="clip",
        )
        with gr.Row():
            self.downloads = {
                name: gr.DownloadButton(f"↓ {name}", size="sm", min_width=50)
                for name in (PICTURE, *EXPORTS)
            }
        self.boxes = gr.HTML(apply_default_css=False)
        self.stages = gr.HTML(apply_default_css=False)

    def components(self) -> list[Any]:
        buttons = self.downloads.values()
        return [self.title, self.picture, self.clip, self.boxes, self.stages, *buttons]

    def filled(self, view: View, paths: dict[str, str]) -> Updates:
        clip = view.media.rate_hz is not None
        return {
            self.title: f"**{view.model.title}**",
            self.picture: None if clip else paths[PICTURE],
            self.clip: paths[PICTURE] if clip else None,
            self.boxes: boxes_table(view),
            self.stages: stages_table(view),
            **{button: paths[name] for name, button in self.downloads.items()},
        }

    def emptied(self) -> Updates:
        values = {self.title: "", self.picture: None, self.clip: None}
        buttons = dict.fromkeys(self.downloads.values())
        return {**values, self.boxes: "", self.stages: "", **buttons}


class _GradioPage:
    """The components, and what happens between them."""

    def __init__(self, workbench: Workbench, examples: Sequence[Example], files: _Files) -> None:
        self._workbench = workbench
        self._examples = examples
        self._files = files
        name = workbench.models.shown.facts["name"]
        with gr.Blocks(
            title=f"Seatrial: {name}",
            analytics_enabled=False,
            delete_cache=(FORGET_AFTER_S, FORGET_AFTER_S),
        ) as self.blocks:
            self._media = gr.State(time_to_live=FORGET_AFTER_S)
            # Changes when there is a video to look at.
            self._video = gr.Textbox(visible="hidden", label="Video", container=False)
            gr.Markdown(f"# {name}")
            with gr.Row(elem_id="board"):
                with gr.Column(elem_id="sources"):
                    self._draw_sources()
                with gr.Column(elem_id="seen"):
                    self._said = gr.Markdown(WELCOME, elem_id="said")
                    with gr.Row():
                        with gr.Column(min_width=300, elem_classes="model"):
                            self._first = _Column()
                        with gr.Column(min_width=300, elem_classes="model"):
                            self._second = _Column()
                with gr.Column(elem_id="settings"):
                    self._draw_settings()
            self._connect()

    def _draw_sources(self) -> None:
        with gr.Tab("File"):
            self._file = gr.File(label="Picture or short video", height=140)
        with gr.Tab("Webcam"):
            self._webcam = gr.Image(
                label="Webcam", sources=["webcam"], type="filepath", format="jpeg"
            )
        self._gallery = gr.Gallery(
            [
                self._files.keep(f"example-{number}.jpg", example.thumbnail)
                for number, example in enumerate(self._examples)
            ],
            label="Examples",
            show_label=False,
            visible=bool(self._examples),
            allow_preview=False,
            columns=4,
            height="auto",
            object_fit="cover",
            buttons=[],
            interactive=False,
            elem_id="examples",
        )

    def _draw_settings(self) -> None:
        models, choice = self._workbench.models, Choice()
        self._confidence = gr.Slider(
            FLOOR, 1.0, choice.confidence, step=0.01, label="Confidence", buttons=[]
        )
        self._iou = gr.Slider(
            0.0, 1.0, choice.iou, step=0.01, label="IoU", buttons=[],
            info="Boxes of one class that overlap more are one object.",
        )  # fmt: skip
        self._classes = gr.Dropdown(
            list(models.shown.labels),
            multiselect=True,
            label="Classes",
            info="All, where none is chosen.",
        )
        self._rival = gr.Dropdown(
            [NO_RIVAL, *models.rivals],
            value=models.first_rival or NO_RIVAL,
            label="Compare with",
            visible=bool(models.rivals),
        )

    def _connect(self) -> None:
        settings: list[Any] = [self._confidence, self._iou, self._classes, self._rival]
        outputs = [
            self._media, self._video, self._file, self._said,
            *self._first.components(), *self._second.components(),
        ]  # fmt: skip
        shown_on = {"show_progress": "minimal", "show_progress_on": [self._said]}
        # A picture does not go through Gradio's queue, which costs more than drawing it; a video
        # does, since only the queue tells how far it is.
        for event, inputs, handler in (
            (self._file.upload, [self._file, *settings], self._given),
            (self._webcam.input, [self._webcam, *settings], self._given),
            (self._gallery.select, settings, self._clicked),
        ):
            event(handler, inputs, outputs, api_visibility="private", queue=False, **shown_on)
        gr.on(
            [setting.change for setting in settings],
            self._changed,
            [self._media, *settings],
            outputs,
            api_visibility="private",
            queue=False,
            trigger_mode="always_last",
            show_progress="hidden",
        )
        self._video.change(
            self._watched,
            [self._media, *settings],
            outputs,
            api_visibility="private",
            concurrency_limit=4,
            trigger_mode="always_last",
            **shown_on,
        )

    def _given(
        self, path: str | None, confidence: float, iou: float, classes: list[str], rival: str
    ) -> Updates:
        choice = partial(Choice, confidence, iou, tuple(classes))
        return self._shown(partial(_read, path), choice, rival)

    def _clicked(
        self,
        confidence: float,
        iou: float,
        classes: list[str],
        rival: str,
        clicked: gr.SelectData,
    ) -> Updates:
        path = self._examples[clicked.index].path
        return self._given(str(path), confidence, iou, classes, rival)

    def _changed(
        self,
        media: Media | None,
        confidence: float,
        iou: float,
        classes: list[str],
        rival: str,
    ) -> Updates:
        choice = partial(Choice, confidence, iou, tuple(classes))
        return self._shown(lambda: media, choice, rival)

    def _watched(
        self,
        media: Media | None,
        confidence: float,
        iou: float,
        classes: list[str],
        rival: str,
        progress: Any = PROGRESS,
    ) -> Updates:
        def told(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
            progress((done, total), desc="looking at the frames", unit="frames")

        if media is None or media.rate_hz is None:  # a picture was given after a video
            return {self._video: ""}
        choice = partial(Choice, confidence, iou, tuple(classes))
        return self._shown(lambda: media, choice, rival, told)

    def _shown(
        self,
        read: Callable[[], Media | None],
        choose: Callable[[], Choice],
        rival: str,
        told: Progress | None = None,
    ) -> Updates:
        """What a person asked to see; a video where it can be told how far it is."""
        # What was given is named beside the result; here the next can be dropped.
        nothing = {self._file: None, **self._first.emptied(), **self._second.emptied()}
        if told is None:
            nothing[self._video] = ""
        try:
            media = read()
            if media is None:
                return {**nothing, self._media: None, self._said: WELCOME}
            if media.rate_hz is not None and told is None:
                looking = f"Looking at {media.name} ..."
                return {self._media: media, self._video: secrets.token_hex(), self._said: looking}
            page = show(self._workbench, media, choose(), rival, told or silent)
            updates = self._first.filled(page.view, self._files.results_of(page.view))
            if page.rival is not None:
                updates |= self._second.filled(page.rival, self._files.results_of(page.rival))
            return {**nothing, self._media: media, self._said: page.said, **updates}
        except SeatrialError as error:
            return {**nothing, self._media: None, self._said: f"⚠ {refusal(error)}"}


def _read(path: str | None) -> Media | None:
    if path is None:
        return None
    file = Path(path)
    return open_media(file.name, file.read_bytes())
