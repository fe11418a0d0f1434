"""From an OpenVINO IR to an artifact in the store."""

from __future__ import annotations

from pathlib import Path

from seatrial.artifact import Artifact, Store
from seatrial.detect.families.registry import family_of
from seatrial.errors import InvalidArtifact
from seatrial.graphs import openvino_file
from seatrial.manifest import Manifest, Provenance, Step, TensorSpec, check_name
from seatrial.models import proof
from seatrial.models.facts import ModelFacts
from seatrial.models.recognise import other_families, recognise, step_config
from seatrial.models.sidecars import sidecars, texts
from seatrial.system.files import sha256_file
from seatrial.system.versions import versions

FILE = "model.xml"


def import_openvino(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    uri: str = "",
    told: ModelFacts | None = None,
) -> Artifact:
    """Make an artifact of an OpenVINO IR, as Ultralytics and others export it, INT8 ones too.

    Args:
        store: Store that the artifact goes to.
        path: The ``.xml`` file; ``.bin`` and what describes the model lie beside it.
        name: Name of the artifact; default: the file's stem.
        replace: Replace an artifact of that name with other content.
        uri: Where the file came from; default: its name.
        told: Facts that a person states.

    Returns:
        An artifact with the format ``openvino`` alone.

    Raises:
        InvalidArtifact: A file is missing or damaged, or the graph cannot be served.
        UnknownFamily: No family supports its inputs and outputs, or several do.
        InvalidConfig: The stated facts do not go together.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(path.stem.lower() if name is None else name)
    told = told or ModelFacts()
    model = openvino_file.load(path)
    graph = openvino_file.signature(model, texts(path))
    family, found = recognise(graph, path, told)
    if found.mask_input is not None:
        raise InvalidArtifact(
            f"{path.name} takes a mask of its padding besides the image",
            hint="import the checkpoint or the ONNX file that it was made of",
        )
    if found.outputs:
        openvino_file.keep_outputs(model, found.outputs)
    precision = openvino_file.weights_precision(model)
    if graph.inputs[0].dtype != "uint8":
        model = openvino_file.add_image_input(
            model,
            scale=found.scale,
            size_hw=found.preprocessing.size_hw,
            mean_std=found.mean_std,
            channels=found.channels,
        )
    graph = openvino_file.signature(model, {})
    image = TensorSpec(graph.inputs[0].name, "uint8", graph.inputs[0].shape, "NHWC")
    manifest = Manifest(
        name=name,
        family=family,
        variant=found.variant,
        formats={"openvino": FILE},
        precision=precision,
        inputs=(image, *graph.inputs[1:]),
        outputs=graph.outputs,
        preprocessing=found.preprocessing,
        labels=found.labels,
        confidence=found.confidence,
        iou=found.iou,
        licence=found.licence,
        source=Provenance(uri or path.name, sha256_file(path.with_suffix(".bin"))),
        step=Step("import", step_config(found, told), versions("openvino")),
    )
    family_of(manifest)  # the outputs fit the labels
    with store.staging() as folder:
        openvino_file.save(model, folder / FILE)
        hint = other_families(path, family)
        proof.prove(folder / FILE, manifest, origin=path.name, hint=hint, engines=("openvino",))
        return store.commit(folder, manifest, replace=replace)


def openvino_files(path: Path) -> list[Path]:
    """The files that `import_openvino` reads."""
    return [path, *(p for p in (path.with_suffix(".bin"),) if p.is_file()), *sidecars(path)]
