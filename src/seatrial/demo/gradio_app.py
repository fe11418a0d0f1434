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

from seatrial.demo.brand import ICON, SHADES, header
from seatrial.demo.examples import DemoExample
from seatrial.demo.exports import EXPORTS
from seatrial.demo.media import MAX_BYTES, Media, open_media
from seatrial.demo.page import AREAS, IMAGE_BUTTON, LAYOUT, NO_RIVAL, WELCOME, show
from seatrial.demo.render import annotated, annotated_name
from seatrial.demo.tables import as_markdown, boxes_table, refusal, stages_table
from seatrial.demo.workbench import FLOOR, Choice, View, Workbench
from seatrial.errors import SeatrialError
from seatrial.progress import Progress, silent

KEPT_RESULTS = 64
FORGET_AFTER_S = 3600
CSS = (
    LAYOUT.format(**{area: f"#{area}" for area in AREAS})
    + """
.gradio-container { max-width: 1400px !important; }
/* Heights that do not depend on what is loaded: nothing moves while a file comes. */
#file { height: 140px; overflow: hidden; }
#examples .grid-wrap { max-height: none; min-height: 0; height: auto; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); }
#examples .thumbnail-item { aspect-ratio: 4 / 3; }
@media (max-width: 767px) {
  .with-examples { min-height: 20.5rem; }
  #examples .grid-container {
    grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: 6.5rem;
    overflow-x: auto;
  }
}
.html-container:has(.seatrial-head, .seatrial) { padding: 0 !important; }
.model:not(:has(img)):not(:has(video)), .tables:not(:has(table)) { display: none; }
.boxes-image:not(:has(img)), .boxes-video:not(:has(video)) { display: none; }
.gradio-container :is(h1, strong) { font-weight: 600; }  /* the boldest weight of its font */
"""
)

PROGRESS = gr.Progress()  # Gradio fills an argument with this default value

Updates = dict[Any, Any]


def create_app(workbench: Workbench, examples: Sequence[DemoExample], folder: Path) -> Any:
    """The page as an ASGI application.

    Args:
        workbench: The models.
        examples: Files to click.
        folder: Folder for the files that browsers fetch; the caller removes it.
    """
    gr.set_static_paths(folder)  # otherwise Gradio hashes and copies each file
    page = _GradioPage(workbench, examples, _BrowserFiles(folder))
    # Without FastAPI's documentation pages, which load scripts from other hosts.
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
        theme=gr.themes.Default(primary_hue=gr.themes.Color(*SHADES, name="seatrial")),
        css=CSS,
        favicon_path=str(ICON),
        head='<link rel="icon" type="image/svg+xml" href="favicon.ico">',
    )


class _BrowserFiles:
    """Files for the browser: Gradio serves paths, not bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._results: deque[Path] = deque()
        self._lock = threading.Lock()

    def keep(self, name: str, data: bytes) -> str:
        """Write a file that stays, and return its path."""
        path = self._folder / name
        path.write_bytes(data)
        return str(path)

    def results_of(self, view: View) -> dict[str, str]:
        """Button -> path of its file; files of the last `KEPT_RESULTS` views are kept."""
        home = Path(tempfile.mkdtemp(dir=self._folder))
        with self._lock:
            self._results.append(home)
            old = self._results.popleft() if len(self._results) > KEPT_RESULTS else None
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        paths = {IMAGE_BUTTON: home / annotated_name(view)}
        paths[IMAGE_BUTTON].write_bytes(annotated(view))
        for kind, export in EXPORTS.items():
            paths[kind] = home / export.name(view)
            paths[kind].write_bytes(export.make(view))
        return {button: str(path) for button, path in paths.items()}


class _Column:
    """The components for one model: an image, and tables in another place.

    Both are visible while they are filled, see `CSS`.

    To hide it by an update of its components' properties would take 3 ms for each of them, and so
    would an update that leaves some out; plain values for all take no time.
    """

    def __init__(self) -> None:
        self.title = gr.Markdown()
        self.image = gr.Image(
            label="Boxes",
            show_label=False,
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            elem_classes="boxes-image",
        )
        self.video = gr.Video(
            label="Boxes",
            show_label=False,
            interactive=False,
            autoplay=True,
            loop=True,
            buttons=[],
            elem_classes="boxes-video",
        )
        with gr.Row():
            self.downloads = {
                name: gr.DownloadButton(f"↓ {name}", size="sm", min_width=50)
                for name in (IMAGE_BUTTON, *EXPORTS)
            }

    def draw_tables(self) -> None:
        """Draw the tables in the place that is open."""
        self.boxes = gr.HTML(apply_default_css=False, padding=False)
        self.stages = gr.HTML(apply_default_css=False, padding=False)

    def components(self) -> list[Any]:
        buttons = self.downloads.values()
        return [self.title, self.image, self.video, self.boxes, self.stages, *buttons]

    def filled(self, view: View, paths: dict[str, str]) -> Updates:
        video = view.media.rate_hz is not None
        return {
            self.title: f"**{view.model.title}**",
            self.image: None if video else paths[IMAGE_BUTTON],
            self.video: paths[IMAGE_BUTTON] if video else None,
            self.boxes: boxes_table(view),
            self.stages: stages_table(view),
            **{button: paths[name] for name, button in self.downloads.items()},
        }

    def emptied(self) -> Updates:
        values = {self.title: "", self.image: None, self.video: None}
        buttons = dict.fromkeys(self.downloads.values())
        return {**values, self.boxes: "", self.stages: "", **buttons}


class _GradioPage:
    """The components of the page, and their events."""

    def __init__(
        self, workbench: Workbench, examples: Sequence[DemoExample], files: _BrowserFiles
    ) -> None:
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
            # Its change starts the detection in a video.
            self._video = gr.Textbox(visible="hidden", label="Video", container=False)
            offered = "with-examples" if examples else "without-examples"
            gr.HTML(header(name), apply_default_css=False, padding=False)
            with gr.Row(elem_id="board"):
                with gr.Column(elem_id="left"):
                    with gr.Column(elem_id="sources", elem_classes=offered):
                        self._draw_sources()
                    with gr.Column(elem_id="settings"):
                        self._draw_settings()
                with gr.Column(elem_id="right"):
                    with gr.Column(elem_id="images"):
                        self._summary = gr.Markdown(WELCOME, elem_id="summary")
                        with gr.Row():
                            with gr.Column(min_width=300, elem_classes="model"):
                                self._first = _Column()
                            with gr.Column(min_width=300, elem_classes="model"):
                                self._second = _Column()
                    with gr.Row(elem_id="details"):
                        for column in (self._first, self._second):
                            with gr.Column(min_width=300, elem_classes="tables"):
                                column.draw_tables()
            self._connect()

    def _draw_sources(self) -> None:
        with gr.Tab("File"):
            self._file = gr.File(label="Image or short video", height=140, elem_id="file")
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
        models = self._workbench.models
        choice = Choice.usual(models.shown)
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
            self._media, self._video, self._file, self._summary,
            *self._first.components(), *self._second.components(),
        ]  # fmt: skip
        shown_on = {"show_progress": "minimal", "show_progress_on": [self._summary]}
        # An image does not go through Gradio's queue, which takes longer than drawing it; a video
        # does, because only the queue shows progress.
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
        def show_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
            progress((done, total), desc="detecting", unit="frames")

        if media is None or media.rate_hz is None:  # an image was given after the video
            return {self._video: ""}
        choice = partial(Choice, confidence, iou, tuple(classes))
        return self._shown(lambda: media, choice, rival, show_progress)

    def _shown(
        self,
        read: Callable[[], Media | None],
        choose: Callable[[], Choice],
        rival: str,
        on_progress: Progress | None = None,
    ) -> Updates:
        """Values of the components after an event.

        Args:
            read: Gives the image or video; None where there is none.
            choose: Gives the settings.
            rival: Name of the model to compare with.
            on_progress: Shows progress; None where the event cannot show it. Then a video only
                starts the event that can.
        """
        # The empty file widget takes the next file.
        nothing = {self._file: None, **self._first.emptied(), **self._second.emptied()}
        if on_progress is None:
            nothing[self._video] = ""
        try:
            media = read()
            if media is None:
                return {**nothing, self._media: None, self._summary: WELCOME}
            if media.rate_hz is not None and on_progress is None:
                text = f"Detecting in {as_markdown(media.name)} ..."
                return {self._media: media, self._video: secrets.token_hex(), self._summary: text}
            page = show(self._workbench, media, choose(), rival, on_progress or silent)
            updates = self._first.filled(page.view, self._files.results_of(page.view))
            if page.rival is not None:
                updates |= self._second.filled(page.rival, self._files.results_of(page.rival))
            return {
                **nothing,
                self._media: media,
                self._summary: as_markdown(page.summary),
                **updates,
            }
        except SeatrialError as error:
            return {**nothing, self._media: None, self._summary: f"⚠ {as_markdown(refusal(error))}"}


def _read(path: str | None) -> Media | None:
    if path is None:
        return None
    file = Path(path)
    return open_media(file.name, file.read_bytes())
