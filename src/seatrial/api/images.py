"""Images as programs hold them: paths, encoded bytes, PIL images and arrays."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from seatrial.detect.decode import decode, decode_file
from seatrial.detect.pixels import check_size, is_closed, pil_to_rgb
from seatrial.errors import InvalidImage, InvalidInput
from seatrial.system.images import DAMAGE, SERVED_FORMATS

ImageLike: TypeAlias = str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]


def pixels(image: ImageLike, *, max_pixels: int) -> NDArray[np.uint8]:
    """An image as an array; a path, bytes and a PIL image are made upright by their EXIF.

    Args:
        image: Path or bytes of a JPEG, PNG or WebP file; a PIL image; or (H, W, 3) uint8 RGB.
        max_pixels: Largest width x height.

    Returns:
        (H, W, 3) uint8 RGB. An array is given back as it is, not copied.

    Raises:
        InvalidInput: The file cannot be read, or `image` is none of these.
        UnsupportedImage: The file is in another format.
        InvalidImage: The file is damaged, the array is not (H, W, 3) uint8, or the PIL image has
            a mode without a fixed range (I, F) or without colours (La), or a file that was closed
            before its pixels were read.
        InputTooLarge: The image has more pixels than allowed.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(image, max_pixels=max_pixels)
    if isinstance(image, str | PathLike):
        return decode_file(Path(image), max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        check_size(*image.size, max_pixels)
        try:
            data = _unread_file(image)
            if not data:
                return pil_to_rgb(image)
        except DAMAGE as error:  # read only now: Pillow opens files without their pixels
            raise InvalidImage(f"the image is damaged or cut off: {error}") from error
        return decode(data, max_pixels=max_pixels)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InvalidImage(
                f"an array must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}",
                hint=_hint(image.shape, image.dtype),
            )
        check_size(image.shape[1], image.shape[0], max_pixels)
        return image
    raise InvalidInput(
        f"{type(image).__name__} is not an image",
        hint="give a path, bytes, a PIL image or an (H, W, 3) uint8 RGB array",
    )


def _unread_file(image: Image.Image) -> bytes:
    """The file of a PIL image of which no pixel was read yet; empty where there is none.

    Pillow makes rows black that a PNG lacks, and does not tell of corrupt blocks of a JPEG.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format not in (*SERVED_FORMATS, "MPO"):
        return b""
    file = image.fp
    if file is None or is_closed(image) or not image.tile:
        return b""
    if image.tell() or image.decoderconfig:  # another frame, or a reduced size (`draft`)
        return b""
    place = file.tell()
    try:
        file.seek(0)
        return file.read()
    finally:
        file.seek(place)


def _hint(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """How an array of another shape or type becomes (H, W, 3) uint8."""
    if len(shape) == 4:
        return "give a list of images: list(images)"
    if len(shape) == 2:
        return "repeat grey for the three colours: np.dstack([image] * 3)"
    if len(shape) == 3 and shape[2] == 4:
        return "leave out alpha: image[:, :, :3]"
    if len(shape) == 3 and shape[2] != 3 and shape[0] == 3:
        return "put the colours last: image.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 3 and dtype.kind == "f":
        return "of 0-1, make 0-255: (image * 255).round().astype(np.uint8)"
    return "OpenCV and Pillow read files as (H, W, 3) uint8; OpenCV's are BGR: image[:, :, ::-1]"
