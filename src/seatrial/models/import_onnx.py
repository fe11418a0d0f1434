"""From an ONNX file to an artifact in the store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.detect.families.registry import family_of
from seatrial.graphs import image_input, onnx_file
from seatrial.manifest import Manifest, Provenance, Step, TensorSpec, check_name
from seatrial.models import description, proof
from seatrial.models.facts import ModelFacts
from seatrial.models.recognise import other_families, recognise, step_config
from seatrial.models.sidecars import sidecars, texts
from seatrial.system.extras import require
from seatrial.system.files import sha256_file
from seatrial.system.versions import versions


def import_onnx(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    uri: str = "",
    licence: str = "unknown",
    told: ModelFacts | None = None,
) -> Artifact:
    """Make an artifact of an ONNX file.

    Args:
        store: Store that the artifact goes to.
        path: The file.
        name: Name of the artifact; default: the file's stem.
        replace: Replace an artifact of that name with other content.
        uri: Where the file came from; default: its name.
        licence: Licence that the source states, for a file that states none.
        told: What a person says of the file.

    Raises:
        InvalidArtifact: The file is missing, cut off or not ONNX, or its weights are no numbers.
        UnknownFamily: It is ONNX, but no family supports its inputs and outputs, or several do.
        InvalidConfig: What a person says does not go together.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(path.stem.lower() if name is None else name)
    model = onnx_file.load(path)
    onnx_file.check_weights(model, path.name)
    onnx_file.infer_open_outputs(model)
    graph = onnx_file.signature(model)
    graph = msgspec.structs.replace(graph, metadata={**texts(path), **graph.metadata})
    told = told or ModelFacts()
    family, found = recognise(graph, path, told)
    if found.outputs:
        onnx_file.keep_outputs(model, found.outputs)
    if graph.inputs[0].dtype != "uint8":
        image_input.add_image_input(
            model,
            scale=found.scale,
            size_hw=found.preprocessing.size_hw,
            mean_std=found.mean_std,
            channels=found.channels,
            mask_input=found.mask_input,
        )
    graph = onnx_file.signature(model)
    image = TensorSpec(graph.inputs[0].name, "uint8", graph.inputs[0].shape, "NHWC")
    manifest = Manifest(
        name=name,
        family=family,
        variant=found.variant,
        formats={"onnx": "model.onnx"},
        precision=onnx_file.weights_precision(model),
        inputs=(image, *graph.inputs[1:]),
        outputs=graph.outputs,
        preprocessing=found.preprocessing,
        labels=found.labels,
        confidence=found.confidence,
        iou=found.iou,
        licence=licence if found.licence == "unknown" else found.licence,
        source=Provenance(uri or path.name, sha256_file(path)),
        step=Step("import", step_config(found, told), versions("onnx")),
    )
    family_of(manifest)  # the outputs fit the labels
    description.write(model, manifest)
    with store.staging() as folder:
        model, manifest = proof.one_image_at_a_time(model, folder, manifest, path.name)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        hint = other_families(path, family)
        proof.prove(folder / "model.onnx", manifest, origin=path.name, hint=hint)
        return store.commit(folder, manifest, replace=replace)


def onnx_files(path: Path) -> list[Path]:
    """The files that `import_onnx` reads: the model, its external data, and its descriptions.

    A model that does not parse is alone; `import_onnx` refuses it.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    locations: set[str] = set()
    with contextlib.suppress(Exception):  # protobuf's and onnx's errors share no base
        locations = set(onnx_file.external_files(onnx.load(path, load_external_data=False)))
    data = [path.parent / name for name in sorted(locations)]
    found = [file for file in data if file.is_file() and os.access(file, os.R_OK)]
    return [path, *found, *sidecars(path)]
