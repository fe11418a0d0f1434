"""Options of an import: facts about a model file that the file does not state."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from seatrial.config import flag
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.graphs.signature import Channels

SIZE = re.compile(r"(\d+)(?:x(\d+))?")
Fit = Literal["letterbox", "letterbox-top-left", "stretch"]
Triple = tuple[float, float, float]


def read_numbers(kind: object, tokens: Sequence[Any]) -> Triple:
    """Three numbers of ``103.53,116.28,123.675`` or of one number on the command line."""
    text = tokens[0].value
    try:
        found = [float(part) for part in text.split(",")]
        if len(found) not in (1, 3) or not all(map(math.isfinite, found)):
            raise ValueError(text)
    except ValueError as error:
        raise InvalidConfig(
            f"{text!r} is neither a number nor three numbers",
            hint="write one for all channels, or one for each: 103.53,116.28,123.675",
        ) from error
    first, *others = found
    return (first, others[0], others[1]) if others else (first, first, first)


def read_size(kind: object, tokens: Sequence[Any]) -> tuple[int, int]:
    """The canvas (height, width), pixels, of ``640`` or ``480x640`` on the command line."""
    text = tokens[0].value
    found = SIZE.fullmatch(text)
    if found is None:
        raise InvalidConfig(f"--imgsz {text!r} is not a size", hint="write 640, or 480x640")
    return int(found[1]), int(found[2] or found[1])


Numbers = Annotated[Triple | None, Parameter(converter=read_numbers, n_tokens=1, metavar="NUMBERS")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts about a model file, for files that do not state them; each goes before the file's.

    Attributes:
        family: Kind of detector; the error of a file that no family is sure of names those that it
            may be of.
        labels: Text file with the class names, one a line, class 0 first; or coco for COCO's
            classes [default: those in the model file, else labels.txt beside it].
        channels: Order of the colours that the model takes: rgb or bgr.
        mean: What is subtracted from the pixel values, 0-255: one number, or three in the order
            of the channels: 103.53,116.28,123.675.
        std: What the pixel values are divided by afterwards, the same way; 255 for a model that
            takes values from 0 to 1.
        resize: letterbox (padded on both sides), letterbox-top-left (padded right and below) or
            stretch.
        imgsz: Canvas of a model that takes images of any size: 640 or 480x640 (height x width).
    """

    family: str | None = None
    labels: str | None = None
    channels: Channels | None = None
    mean: Numbers = None
    std: Numbers = None
    resize: Fit | None = None
    imgsz: Annotated[
        tuple[int, int] | None, Parameter(converter=read_size, n_tokens=1, metavar="SIZE")
    ] = None

    def given(self) -> dict[str, Any]:
        """The facts that a person stated, as plain values, for the manifest's step."""
        return {key: value for key, value in vars(self).items() if value is not None}


def refuse_facts(told: ModelFacts | None, why: str) -> None:
    """Refuse facts about a model that needs none.

    Args:
        told: What a person said of it.
        why: What the model is: the beginning of the message.

    Raises:
        InvalidInput: There are any.
    """
    if told is not None and told.given():
        raise InvalidInput(
            f"{why}: {flag(next(iter(told.given())))} is for graphs",
            hint="leave out the options that describe the model",
        )
