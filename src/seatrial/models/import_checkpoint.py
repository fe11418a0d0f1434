"""From a checkpoint, as training leaves it, to an artifact in the store.

A checkpoint has no graph yet: engines do not open it, `seatrial.export` makes a graph of it. What
it detects and how images go into it is read without torch.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.detect.families import huggingface
from seatrial.detect.families.ultralytics import PAD_VALUE
from seatrial.errors import InvalidArtifact, MissingExtra
from seatrial.graphs.signature import IMAGE_INPUT, LOGITS, PRED_BOXES, VALID_HW
from seatrial.manifest import Manifest, Preprocessing, Provenance, Step, TensorSpec, check_name
from seatrial.models.safetensors_check import (
    StoredTensor,
    check_finite,
    read_header,
    read_index,
)
from seatrial.models.sidecars import GRAPH_FOLDERS, graphs_in
from seatrial.report.numbers import counted
from seatrial.system.extras import import_ultralytics_package
from seatrial.system.file_kinds import other_kind
from seatrial.system.files import beside, sha256_file
from seatrial.system.versions import versions

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
PRECISIONS = {"F64": "f32", "F32": "f32", "F16": "f16", "BF16": "bf16"}


class Lineage(msgspec.Struct, frozen=True):
    """How this program made a checkpoint.

    Attributes:
        step: Step that made it, with its settings and versions.
        parent: Digest of the artifact that it was made from; None where it began at random.
        metrics: Figures measured on it.
    """

    step: Step
    parent: str | None
    metrics: dict[str, float]


def import_transformers(
    store: Store,
    folder: Path,
    *,
    name: str,
    uri: str,
    licence: str,
    replace: bool = False,
    lineage: Lineage | None = None,
) -> Artifact:
    """Make an artifact of a snapshot of a Hugging Face model.

    Args:
        store: Store that the artifact goes to.
        folder: Folder with ``config.json``, ``model.safetensors`` (or its shards and their index)
            and, where the model has one, ``preprocessor_config.json`` or
            ``processor_config.json``; the artifact has the first in either case.
        name: Name of the artifact.
        uri: Where the checkpoint came from.
        licence: Licence that the source states.
        replace: Replace an artifact of that name with other content.
        lineage: How this program made it; None for a checkpoint from elsewhere.

    Returns:
        An artifact with the format ``transformers`` alone.

    Raises:
        InvalidArtifact: Files missing or damaged, an architecture that is not known, weights that
            are no numbers, are quantised, or of another number of classes than the labels.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(name)
    preprocessor = huggingface.image_processor(
        _read(folder, huggingface.PREPROCESSOR), _read(folder, huggingface.PROCESSOR)
    )
    facts = huggingface.read(_read(folder, huggingface.CONFIG) or b"", preprocessor)
    files = weight_files(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        found = read_header(file)
        check_finite(file, found)
        tensors |= found
    _check_head(facts, tensors)
    precision = _precision(tensors)
    texts = [folder / name for name in (huggingface.CONFIG, WEIGHTS_INDEX)]
    with store.staging() as staged:
        for file in (*files, *(text for text in texts if text.is_file())):
            shutil.copyfile(file, staged / file.name)
        if preprocessor is not None:
            (staged / huggingface.PREPROCESSOR).write_bytes(preprocessor)
        manifest = msgspec.structs.replace(
            transformers_manifest(facts, name=name),
            precision=precision,
            licence=licence,
            source=Provenance(uri, sha256_file(files[0])),
        )
        return store.commit(staged, _credited(manifest, lineage), replace=replace)


def transformers_manifest(facts: huggingface.CheckpointFacts, *, name: str) -> Manifest:
    """Manifest of a Hugging Face model, as far as its configuration describes it."""
    return Manifest(
        name=name,
        family="detr",
        variant=facts.architecture.variant,
        formats={"transformers": huggingface.CONFIG},
        precision="f32",
        inputs=image_inputs(facts.preprocessing, masked=facts.architecture.masked),
        outputs=_outputs(facts),
        preprocessing=facts.preprocessing,
        labels=facts.labels,
        licence="unknown",
        source=Provenance(name, ""),
        step=Step("import", {"model_type": facts.model_type}, versions()),
    )


def import_ultralytics(
    store: Store,
    path: Path,
    *,
    name: str,
    uri: str = "",
    licence: str = "",
    allow_pickle: bool = False,
    replace: bool = False,
    lineage: Lineage | None = None,
) -> Artifact:
    """Make an artifact of an Ultralytics checkpoint.

    Args:
        store: Store that the artifact goes to.
        path: The ``.pt`` file.
        name: Name of the artifact.
        uri: Where the file came from; default: its name.
        licence: Licence; default: Ultralytics' own.
        allow_pickle: Read the file although it is a pickle, which runs code that is in it.
        replace: Replace an artifact of that name with other content.
        lineage: How this program made it; None for a checkpoint from elsewhere.

    Returns:
        An artifact with the format ``ultralytics`` alone.

    Raises:
        InvalidArtifact: Not allowed, missing, damaged, not a detector.
        MissingExtra: Ultralytics is not installed.
        InvalidInput: The name is not usable, or taken.
    """
    name = check_name(name)
    if not path.is_file():
        raise InvalidArtifact(
            f"{path} does not exist", hint=beside(path, otherwise="give the path of a .pt file")
        )
    if (other := other_kind(path, zipped=True)) is not None:
        raise InvalidArtifact(f"{path} is {other[0]}", hint=other[1])
    if not allow_pickle:
        raise InvalidArtifact(
            f"{path.name} is a pickle: reading it runs code that is in it",
            hint=f"if you trust where it came from: seatrial export {path} --to onnx "
            "--images FOLDER --allow-pickle makes a model that runs; to train its weights: "
            f"seatrial models import {path} --allow-pickle, then name the artifact",
        )
    network = load_ultralytics(path).model
    with store.staging() as staged:
        shutil.copyfile(path, staged / "model.pt")
        manifest = ultralytics_manifest(network, name=name, size_px=_size_px(network))
        manifest = msgspec.structs.replace(
            manifest,
            licence=licence or manifest.licence,
            source=Provenance(uri or path.name, sha256_file(path)),
        )
        return store.commit(staged, _credited(manifest, lineage), replace=replace)


def ultralytics_manifest(network: Any, *, name: str, size_px: int) -> Manifest:
    """Manifest of an Ultralytics network on a square canvas."""
    head = network.model[-1]
    labels = tuple(str(network.names[index]) for index in range(len(network.names)))
    end_to_end = bool(getattr(head, "end2end", False))
    anchors = sum((size_px // int(stride)) ** 2 for stride in head.stride)
    shape = (-1, 300, 6) if end_to_end else (-1, 4 + len(labels), anchors)
    preprocessing = Preprocessing((size_px, size_px), "letterbox", PAD_VALUE)
    return Manifest(
        name=name,
        family="yolo",
        variant="end_to_end" if end_to_end else "anchors",
        formats={"ultralytics": "model.pt"},
        precision="f32",
        inputs=image_inputs(preprocessing, masked=False),
        outputs=(TensorSpec("output0", "float32", shape),),
        preprocessing=preprocessing,
        labels=labels,
        licence="AGPL-3.0 License (https://ultralytics.com/license)",
        source=Provenance(name, ""),
        step=Step("import", {}, versions("ultralytics", "torch")),
    )


def _credited(manifest: Manifest, lineage: Lineage | None) -> Manifest:
    if lineage is None:
        return manifest
    return msgspec.structs.replace(
        manifest, parent=lineage.parent, step=lineage.step, metrics=lineage.metrics
    )


def plain_name(text: str) -> str:
    """A file's or folder's name, with what an artifact's name may not hold replaced."""
    return re.sub(r"[^a-z0-9._-]", "-", text.lower()).lstrip("._-") or "model"


def load_ultralytics(path: Path) -> Any:
    """``ultralytics.YOLO`` of a checkpoint, which is a pickle.

    A network with a second head that needs no NMS (YOLO26) answers by that head: which of the two
    Ultralytics takes by itself depends on its version.

    Raises:
        InvalidArtifact: It does not load, detects no objects, or has weights that are not numbers.
        MissingExtra: Ultralytics is not installed.
    """
    try:
        # It prints to standard output, which is for data.
        with contextlib.redirect_stdout(sys.stderr):
            ultralytics = import_ultralytics_package(purpose="reading .pt checkpoints")
            model = ultralytics.YOLO(path)
            network = model.model.float()
    except MissingExtra:
        raise
    except Exception as error:  # torch's, pickle's and Ultralytics' errors share no base
        raise InvalidArtifact(
            f"{path.name} does not load: {type(error).__name__}: {error}",
            hint="the file may be cut off: compare its size with the original",
        ) from error
    if model.task != "detect":
        raise InvalidArtifact(f"{path.name} is a model for task {model.task!r}, not 'detect'")
    head = network.model[-1]
    if type(head).__name__ == "RTDETRDecoder":
        raise InvalidArtifact(
            f"{path.name} is an RT-DETR of Ultralytics, which is read as a graph alone",
            hint=f"yolo export model={path} format=onnx; then import the .onnx file",
        )
    if getattr(head, "one2one_cv2", None) is not None:
        head.end2end = True
    wrong = [name for name, weight in network.state_dict().items() if not weight.isfinite().all()]
    if wrong:
        raise InvalidArtifact(
            f"{path.name} holds weights that are not numbers (NaN or infinite), {wrong[0]} first",
            hint="the training that wrote it diverged",
        )
    return model


def image_inputs(preprocessing: Preprocessing, *, masked: bool) -> tuple[TensorSpec, ...]:
    """Inputs of the graphs that are exported from a checkpoint, of any batch size."""
    image = TensorSpec(IMAGE_INPUT, "uint8", (-1, *preprocessing.size_hw, 3), "NHWC")
    return (image, TensorSpec(VALID_HW, "int64", (-1, 2))) if masked else (image,)


def _read(folder: Path, name: str) -> bytes | None:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        if name == huggingface.CONFIG:
            raise InvalidArtifact(
                f"{folder} is not a checkpoint: {name} cannot be read ({error.strerror})",
                hint="give a folder that transformers wrote",
            ) from error
        return None


def checkpoint_files(folder: Path) -> list[Path]:
    """The files that `import_transformers` reads.

    Raises:
        InvalidArtifact: See `weight_files`.
    """
    texts = (huggingface.CONFIG, huggingface.PREPROCESSOR, huggingface.PROCESSOR, WEIGHTS_INDEX)
    return [*weight_files(folder), *(p for name in texts if (p := folder / name).is_file())]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the whole one, or the shards that the index names.

    Raises:
        InvalidArtifact: There are none, some are missing, it is not told which belong to the
            model, or they are those of an adapter.
    """
    for name in ADAPTER:
        if (folder / name).exists():
            raise InvalidArtifact(
                f"{folder} has {name}: its model is changed by an adapter, which is not read here",
                hint="merge it: model.merge_and_unload() in PEFT, then save_pretrained(folder)",
            )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        graphs = [graph for name in GRAPH_FOLDERS for graph in graphs_in(folder / name)]
        pickles = sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt*")))
        raise InvalidArtifact(
            f"{folder} has no weights in safetensors" + (f", only {pickles[0]}" if pickles else ""),
            hint=f"name its graph: {graphs[0]}"
            if graphs
            else "convert them: model.save_pretrained(folder) in transformers writes safetensors",
        )
    if folder / WEIGHTS in files:
        return [folder / WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        raise InvalidArtifact(
            f"{folder} has {files[0].name}, and neither {WEIGHTS} nor {WEIGHTS_INDEX}, which says "
            "what belongs to the model",
            hint="copy the missing file too, or write all anew: model.save_pretrained(folder)",
        )
    present = [file.name for file in files]
    return [folder / name for name in read_index(folder / WEIGHTS_INDEX, present)]


def _check_head(facts: huggingface.CheckpointFacts, tensors: dict[str, StoredTensor]) -> None:
    suffix = facts.architecture.head
    heads = {name: t.shape for name, t in tensors.items() if name.endswith(suffix)}
    if not heads:
        raise InvalidArtifact(
            f"the weights have no {suffix!r}: they are not those of a {facts.model_type} detector"
        )
    name, shape = next(iter(heads.items()))
    classes = shape[0] - (facts.architecture.variant == "detr")  # one row for no object
    if classes != len(facts.labels):
        raise InvalidArtifact(
            f"{huggingface.CONFIG} names {counted(len(facts.labels), 'class', 'classes')} and the "
            f"weights have {classes} ({name} {list(shape)})",
            hint="the two files are of different models",
        )


def _precision(tensors: dict[str, StoredTensor]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.end - tensor.begin
    most = sizes.most_common(1)[0][0]
    odd = {
        tensor.dtype: name
        for name, tensor in tensors.items()
        if tensor.dtype not in PRECISIONS
        and (tensor.dtype == most or tensor.dtype.startswith("F") or name.endswith(".weight"))
    }
    if odd:
        dtype, name = next(iter(odd.items()))
        raise InvalidArtifact(
            f"the weights are stored as {dtype}, {name} for example: they are quantised",
            hint="import the checkpoint that they were made from: weights in "
            f"{', '.join(PRECISIONS)} are read; seatrial compress int8 quantises here",
        )
    return PRECISIONS[most]


def _outputs(facts: huggingface.CheckpointFacts) -> tuple[TensorSpec, ...]:
    columns = len(facts.labels) + (facts.architecture.variant == "detr")
    return (
        TensorSpec(LOGITS, "float32", (-1, facts.queries, columns)),
        TensorSpec(PRED_BOXES, "float32", (-1, facts.queries, 4)),
    )


def _size_px(network: Any) -> int:
    """Size of the training images; 640 where the checkpoint does not tell."""
    settings: Any = getattr(network, "args", {})
    plain = settings if isinstance(settings, dict) else vars(settings)
    size: Any = plain.get("imgsz", 640)
    return int(max(size) if isinstance(size, list | tuple) else size)
