"""From an ONNX file to an artifact in the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact, Store, check_name
from seatrial.detect.families.detr import LABELS_FILE
from seatrial.detect.families.huggingface import CONFIG, PREPROCESSOR, PROCESSOR
from seatrial.detect.families.registry import recognise
from seatrial.graphs import image_input, onnx_file
from seatrial.manifest import Manifest, Provenance, Step, TensorSpec
from seatrial.system.extras import require
from seatrial.system.files import sha256_file
from seatrial.system.versions import versions

SIDECARS = (CONFIG, PREPROCESSOR, PROCESSOR, LABELS_FILE)


def import_onnx(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    uri: str = "",
    licence: str = "unknown",
) -> Artifact:
    """Make an artifact of an ONNX file.

    Args:
        store: Store that the artifact goes to.
        path: The file.
        name: Name of the artifact; default: the file's stem.
        replace: Replace an artifact of that name with other content.
        uri: Where the file came from; default: its name.
        licence: Licence that the source states, for a file that states none.

    Raises:
        InvalidArtifact: The file is missing, cut off or not ONNX, or its weights are no numbers.
        UnknownFamily: It is ONNX, but no family supports its inputs and outputs.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(path.stem.lower() if name is None else name)
    model = onnx_file.load(path)
    onnx_file.check_weights(model, path.name)
    graph = onnx_file.signature(model)
    graph = msgspec.structs.replace(graph, metadata={**_beside(path), **graph.metadata})
    family, found = recognise(graph, origin=path.name)
    size = found.preprocessing.size_hw
    if graph.inputs[0].dtype != "uint8":
        image_input.add_image_input(
            model,
            scale=found.scale,
            size_hw=size,
            mean_std=found.mean_std,
            mask_input=found.mask_input,
        )
    graph = onnx_file.signature(model)
    image = TensorSpec(graph.inputs[0].name, "uint8", graph.inputs[0].shape, "NHWC")
    with store.staging() as folder:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
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
            licence=licence if found.licence == "unknown" else found.licence,
            source=Provenance(uri or path.name, sha256_file(path)),
            step=Step("import", {"scale": found.scale, **found.facts}, versions("onnx")),
        )
        return store.commit(folder, manifest, replace=replace)


def onnx_files(path: Path) -> list[Path]:
    """The files that `import_onnx` reads: the model, its external data, and its descriptions.

    A model that does not parse is alone; `import_onnx` refuses it.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    locations: set[str] = set()
    with contextlib.suppress(Exception):  # protobuf's and onnx's errors share no base
        model = onnx.load(path, load_external_data=False)
        for tensor in _tensors(model.graph, *model.functions):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                locations |= {e.value for e in tensor.external_data if e.key == "location"}
    beside = [path.parent / name for name in (*sorted(locations), *SIDECARS)]
    return [path, *(file for file in beside if file.is_file() and os.access(file, os.R_OK))]


def _tensors(*graphs: Any) -> Iterator[Any]:
    """Stored tensors of graphs and of functions, their subgraphs' among them."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                yield from _tensors(attribute.g, *attribute.graphs)


def _beside(path: Path) -> dict[str, str]:
    """Name -> text of the descriptions in the model file's folder."""
    found = {}
    for name in SIDECARS:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found[name] = (path.parent / name).read_text(encoding="utf-8")
    return found
