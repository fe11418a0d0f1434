"""Where annotated images and videos are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seatrial.detect.draw import WRITTEN, check_image_name
from seatrial.errors import InvalidInput
from seatrial.system.files import check_free, check_place
from seatrial.video.annotated import check_suffix
from seatrial.video.inputs import Input
from seatrial.video.sources import SUFFIXES

IMAGE_SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"  # where the input's own format is not written
FILES = {*WRITTEN, *SUFFIXES}
SAVE_HINT = "name another file (--output)"


def targets_of(
    inputs: Sequence[Input], output: Path, *, folders: bool = False, read: Sequence[Path] = ()
) -> dict[Path, Path]:
    """The file that each input is written to, by the input's path.

    Args:
        inputs: Images and videos.
        output: An image or video file where one of these is given; else a new or empty folder.
        folders: Whether a folder was given.
        read: What else is read, and must not be overwritten.

    Raises:
        InvalidInput: The folder holds files, the name is not one that can be written, or the file
            is an input.
        NotWritable: The place cannot be written.
    """
    if len(inputs) == 1 and not folders and output.suffix and not output.is_dir():
        (check_suffix if inputs[0].video else check_image_name)(output)
        check_place(output, hint=SAVE_HINT, inputs=[inputs[0].path, *read])
        return {inputs[0].path: output}
    if output.suffix.lower() in FILES and not output.is_dir():
        given = "a folder is" if folders else f"{len(inputs)} files are"
        raise InvalidInput(
            f"{output} is the name of one file, and {given} looked at",
            hint=f"name a folder, such as {output.with_suffix('')} (--output)",
        )
    check_free(output)
    plain = [_renamed(one) for one in inputs]
    often = Counter(plain)
    # day.jpg and day.png would be one file: they keep their suffix before the new one.
    names = [
        name if often[name] == 1 else f"{one.name}{Path(name).suffix}"
        for one, name in zip(inputs, plain, strict=True)
    ]
    twice = next((name for name, number in Counter(names).items() if number > 1), None)
    if twice is not None:
        raise InvalidInput(
            f"several of the files would be written to {output / twice}",
            hint="give their folders, or detect in them one by one",
        )
    return {one.path: output / name for one, name in zip(inputs, names, strict=True)}


def _renamed(one: Input) -> str:
    if not one.video and Path(one.name).suffix.lower() in WRITTEN:
        return one.name
    return str(Path(one.name).with_suffix(VIDEO_SUFFIX if one.video else IMAGE_SUFFIX))
