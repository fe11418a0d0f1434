"""Labels for Label Studio: tasks with predictions to import, and the labelling interface.

Format: https://labelstud.io/guide/predictions, "Import pre-annotated data". Positions and sizes
are percent of the image. Characters that XML does not
have are written as symbols in names of classes.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from seatrial.config import encode_json
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import in_one_line

TASKS, INTERFACE = "label_studio.json", "label_studio.xml"
# Label Studio serves it from LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, the folder above.
ADDRESS = "/data/local-files/?d={folder}/images/{name}"
FROM, TO = "label", "image"  # names of controls in the interface, to which results refer


def write(folder: Path, labelled: LabelledSet, model: str, name: str) -> None:
    """Write the tasks and the interface.

    Args:
        folder: Folder to write into.
        labelled: The labels, with sizes; ``score``, ``origin`` and ``track_id`` are in its details.
        model: Name of the model that drew them.
        name: Name of the folder, as Label Studio finds it.
    """
    (folder / TASKS).write_bytes(encode_json(_tasks(labelled, model, name)))
    (folder / INTERFACE).write_text(
        _interface([in_one_line(c.name) for c in labelled.categories]), encoding="utf-8"
    )


def _tasks(labelled: LabelledSet, model: str, folder: str) -> list[dict[str, Any]]:
    regions: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for index, image in enumerate(labelled.truth.image.tolist()):
        regions[image].append(_region(labelled, index))
    return [
        {
            "data": {"image": ADDRESS.format(folder=quote(folder), name=quote(image.name))},
            "predictions": [
                {
                    "model_version": model,
                    # Label Studio can sort tasks by it: the least confident first.
                    "score": min((region["score"] for region in regions[number]), default=0.0),
                    "result": regions[number],
                }
            ],
        }
        for number, image in enumerate(labelled.images)
    ]


def _region(labelled: LabelledSet, index: int) -> dict[str, Any]:
    truth = labelled.truth
    image = labelled.images[truth.image[index]]
    width, height = image.width or 1, image.height or 1
    left, top, across, down = truth.xywh[index].tolist()
    extra = labelled.details.objects[index] if labelled.details else {}
    notes = [str(extra["origin"])] if "origin" in extra else []
    notes += [f"track {extra['track_id']}"] if "track_id" in extra else []
    return {
        "id": f"draft-{image.id}-{index + 1}",
        "type": "rectanglelabels",
        "from_name": FROM,
        "to_name": TO,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": extra.get("score", 1.0),
        "meta": {"text": notes},
        "value": {
            "rotation": 0,
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * across / width,
            "height": 100 * down / height,
            "rectanglelabels": [in_one_line(labelled.categories[truth.category[index]].name)],
        },
    }


def _interface(names: list[str]) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    return (
        f'<View>\n  <Image name="{TO}" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="{FROM}" toName="{TO}">\n{labels}  </RectangleLabels>\n</View>\n'
    )
