"""What a page shows for one picture or video, whichever front end draws it."""

from __future__ import annotations

from dataclasses import dataclass

from seatrial.demo.media import Media
from seatrial.demo.tables import comparison, summary
from seatrial.demo.workbench import Choice, View, Workbench
from seatrial.progress import Progress, silent

NO_RIVAL = "nothing"
PICTURE = "Picture"  # what is drawn, beside the kinds of `seatrial.demo.exports`
WELCOME = "Give a picture or a short video, take one with the webcam, or click an example."


@dataclass(frozen=True, slots=True)
class Page:
    """One model's view, and another's beside it.

    Attributes:
        view: Of the model that the page is about.
        rival: Of the model beside it; None where there is none.
        said: What is seen, in plain text.
    """

    view: View
    rival: View | None
    said: str


def show(
    workbench: Workbench,
    media: Media,
    choice: Choice,
    rival: str = NO_RIVAL,
    on_progress: Progress = silent,
) -> Page:
    """Look at a picture or video.

    Args:
        workbench: Asks the models.
        media: What to look at.
        choice: What to show of it.
        rival: Name of a model to compare with, or `NO_RIVAL`. Pictures are compared, videos not.
        on_progress: Told after each frame.

    Raises:
        SeatrialError: A picture is refused, a model cannot be opened or does not answer.
    """
    view = workbench.view(media, choice, on_progress=on_progress)
    said = summary(view)
    if rival == NO_RIVAL:
        return Page(view, None, said)
    if media.rate_hz is not None:
        return Page(view, None, f"{said} Videos are not compared: give a picture.")
    other = workbench.view(media, choice, workbench.models.rival(rival))
    return Page(view, other, f"{said} {comparison(view, other)}")
