"""``seatrial detect``: one image through the request path, in this process."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from seatrial.cli.console import err, out, print_json, store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.config import flag, from_options
from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput, naming
from seatrial.system.files import check_place, read_bytes, write_atomically, writing

SAVE_HINT = "name another file (--save)"


def detect(
    image: Path,
    *,
    options: DeploymentOptions | None = None,
    confidence: float | None = None,
    iou: float | None = None,
    save: Path | None = None,
    json: bool = False,
) -> None:
    """Find objects in an image.

    Args:
        image: A JPEG, PNG or WebP file.
        options: The detector.
        confidence: Lowest confidence reported, 0-1 [default: 0.25].
        iou: Boxes of one class that overlap more are one object, 0-1 [default: 0.7].
        save: Write the image with the boxes drawn to this JPEG file.
        json: Print JSON, as the service answers it.
    """
    import msgspec

    from seatrial.detect.answer import answer
    from seatrial.detect.draw import annotated_jpeg
    from seatrial.detect.opening import open_detector
    from seatrial.models.resolve import resolve

    deployment = (options or DeploymentOptions()).resolve()
    if save is not None and save.suffix.lower() not in (".jpg", ".jpeg"):
        raise InvalidInput(f"--save writes a JPEG file, not {save.name}", hint="name it .jpg")
    if save is not None:
        check_place(save, hint=SAVE_HINT)
    given = {"confidence": confidence, "iou": iou}
    plain = msgspec.structs.asdict(deployment.detection)
    plain.update((key, value) for key, value in given.items() if value is not None)
    thresholds = from_options(plain, Thresholds, flag)
    data = read_bytes(image)
    artifact = resolve(store(), deployment.model)
    with open_detector(artifact, deployment) as detector, naming(image):
        result = detector.detect(data, thresholds, max_pixels=deployment.limits.image_pixels)
    labels = artifact.manifest.labels
    shown = answer(result, labels, result.stages_ms)
    if save is not None:
        with writing(save, hint=SAVE_HINT):
            write_atomically(save, annotated_jpeg(result.image, result.detections, labels))
        err.print(f"wrote {save}")
    if json:
        print_json(msgspec.to_builtins(shown))
        return
    table = Table("label", "confidence", "left", "top", "right", "bottom")
    for box in shown.detections:
        table.add_row(box.label, f"{box.confidence:.3f}", *(f"{v:.1f}" for v in box.box))
    out.print(table)
    engine = detector.engine
    err.print(
        f"{len(shown.detections)} objects in {image.name} "
        f"({shown.image.width}x{shown.image.height}); {engine.name} on {engine.device}, "
        f"{engine.precision}, inference {result.stages_ms['infer']:.1f} ms"
    )
