"""Content of the page for an image or video, in both front ends."""

from __future__ import annotations

from dataclasses import dataclass

from seatrial.demo.media import Media
from seatrial.demo.tables import comparison, summary
from seatrial.demo.workbench import Choice, View, Workbench
from seatrial.progress import Progress, silent

NO_RIVAL = "nothing"
IMAGE_BUTTON = "Image"  # downloads the drawn boxes; the others are in `EXPORTS`
# In both front ends. On a narrow screen, the result is right below the input, and the settings are
# above the tables, so that neither a table nor a line of text that grows moves a slider.
AREAS = ("board", "left", "right", "sources", "images", "settings", "details", "summary")
LAYOUT = """
{board} {{ display: flex; flex-direction: column; flex-wrap: nowrap; gap: 1rem; }}
{left}, {right} {{ display: contents; }}
{sources} {{ order: 1; }} {images} {{ order: 2; }}
{settings} {{ order: 3; }} {details} {{ order: 4; }}
@media (max-width: 767px) {{ {summary} {{ min-height: 5rem; }} }}
@media (min-width: 768px) {{
  {board} {{
    display: grid; grid-template-columns: minmax(0, 4fr) minmax(0, 9fr); align-items: start;
  }}
  {left}, {right} {{ display: flex; flex-direction: column; gap: 1rem; }}
}}
"""
WELCOME = "Give an image or a short video, take one with the webcam, or click an example."


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a page.

    Attributes:
        view: Detections of the model that the page is about.
        rival: Detections of the model it is compared with; None without one.
        summary: The result in plain text.
    """

    view: View
    rival: View | None
    summary: str


def show(
    workbench: Workbench,
    media: Media,
    choice: Choice,
    rival: str = NO_RIVAL,
    on_progress: Progress = silent,
) -> Page:
    """The content of the page for an image or video.

    Args:
        workbench: The models.
        media: The image or video.
        choice: The settings.
        rival: Name of a model to compare with, or `NO_RIVAL`. Videos are not compared.
        on_progress: Called after each frame.

    Raises:
        SeatrialError: An image is refused, a model cannot be opened or does not answer.
    """
    view = workbench.view(media, choice, on_progress=on_progress)
    text = summary(view)
    if rival == NO_RIVAL:
        return Page(view, None, text)
    if media.rate_hz is not None:
        return Page(view, None, f"{text} Videos are not compared: give an image.")
    other = workbench.view(media, choice, workbench.models.rival(rival))
    return Page(view, other, f"{text} {comparison(view, other)}")
