"""The candidates of a trial: artifacts that can be made, and ways to serve each on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from seatrial.deployment import Batching, CoreLayout, Deployment, Precision
from seatrial.system.hardware import Cpu

# Canvases that are tried, as shares of the model's own; half of it takes a quarter of the work.
SIZES = (0.5, 0.65, 0.75, 1.0)
STRIDE_PX = 32
# Engine -> format that it is given, where the model itself has none that it reads.
FORMATS = {"openvino": "openvino", "onnxruntime": "onnx"}
DEFAULT_ENGINE = "openvino"  # of a deployment that names only its model
BATCH = 4


class TriedModel(msgspec.Struct, frozen=True):
    """A model that was named, as far as the plan of a trial needs it.

    Attributes:
        name: Name of its artifact.
        digest: Digest of the artifact.
        size_px: Canvas (height, width).
        formats: Formats that it has: ``onnx``, ``openvino``; a checkpoint has neither.
        precision: Numeric type of its weights.
        resizable: Whether other canvases can be made of it: it is a checkpoint.
        takes_batches: Whether its graph takes any number of images.
    """

    name: str
    digest: str
    size_px: tuple[int, int]
    formats: tuple[str, ...]
    precision: str = "f32"
    resizable: bool = False
    takes_batches: bool = False


class Machine(msgspec.Struct, frozen=True):
    """The engines and cores of this machine, and what else its speed depends on.

    Attributes:
        cores: Number of usable cores.
        engines: Engine -> numeric types that it computes in here.
        compresses: Engines for which INT8 graphs can be made here.
        cpu: Processor; None where it is not known.
        memory_gib: Memory that may be used, whole GiB: what the kernel keeps of it changes.
        versions: Versions of Seatrial and of the libraries that are measured.
    """

    cores: int
    engines: dict[str, tuple[Precision, ...]]
    compresses: tuple[str, ...] = ()
    cpu: Cpu | None = None
    memory_gib: int = 0
    versions: dict[str, str] = {}


class Variant(msgspec.Struct, frozen=True):
    """An artifact that a trial makes, or takes as it is.

    Attributes:
        model: Name of the artifact that it is made of.
        digest: Digest of that.
        size_px: Canvas (height, width).
        format: ``openvino`` or ``onnx``; empty: the model as it is.
        int8: Whether it is quantised.
        dynamic_batch: Whether its graph takes any number of images.
    """

    model: str
    digest: str
    size_px: tuple[int, int]
    format: str = ""
    int8: bool = False
    dynamic_batch: bool = False

    @property
    def key(self) -> str:
        """Key in the journal: the same variant of the same artifact has the same one."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    @property
    def words(self) -> str:
        """``yolo11n 320 px int8``."""
        height, width = self.size_px
        size = f"{height}" if height == width else f"{height}x{width}"
        batch = " any batch" if self.dynamic_batch else ""
        return f"{self.model} {size} px{' int8' if self.int8 else ''}{batch}"

    @property
    def floated(self) -> Variant:
        """The float32 graph that an INT8 one is made of."""
        return msgspec.structs.replace(self, int8=False)


class Arrangement(msgspec.Struct, frozen=True):
    """One way to serve: a variant, an engine, a precision, a division of the cores, batches.

    Attributes:
        variant: The artifact.
        engine: Name in the engine table.
        precision: Numeric type that the engine computes in.
        layout: Division of the cores.
        batching: Images that a lane is given at once.
    """

    variant: Variant
    engine: str
    precision: Precision
    layout: CoreLayout = CoreLayout()
    batching: Batching = Batching()

    @property
    def key(self) -> str:
        """Key in the journal."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    @property
    def numerics(self) -> str:
        """Key of its accuracy: how the cores are divided changes no box."""
        return f"{self.variant.key}/{self.engine}/{self.precision}"

    @property
    def words(self) -> str:
        """The arrangement in a line: ``yolo11n 320 px int8, openvino bf16, default layout``."""
        layout = "default layout"
        if self.layout != CoreLayout():
            lanes, threads = self.layout.instances, self.layout.threads
            layout = f"{lanes} x {threads} {'thread' if threads == 1 else 'threads'}"
        batch = self.batching.max_batch
        batches = "" if batch == 1 else f", batches of up to {batch}"
        return f"{self.variant.words}, {self.engine} {self.precision}, {layout}{batches}"

    @property
    def cost(self) -> float:
        """About how much work an image is, to try what is cheap first; no unit."""
        height, width = self.variant.size_px
        share = 0.5 if self.variant.int8 else {"f32": 1.0, "bf16": 0.6, "f16": 0.9}[self.precision]
        return height * width * share

    def deployment(self, artifact: str) -> Deployment:
        """The deployment of it, with the name of its artifact."""
        return Deployment(
            artifact,
            engine=self.engine,
            precision=self.precision,
            layout=self.layout,
            batching=self.batching,
        )


def sizes(subject: TriedModel) -> list[tuple[int, int]]:
    """Canvases that are tried of a model, the smallest first."""
    if not subject.resizable:
        return [subject.size_px]
    found = {tuple(_multiple(side * share) for side in subject.size_px) for share in SIZES}
    return sorted((one[0], one[1]) for one in found)


def default_arrangement(subject: TriedModel, machine: Machine) -> Arrangement:
    """The arrangement that ``seatrial serve --model NAME`` has, which every other is compared with.

    A checkpoint is served in OpenVINO's format, as the guides do it; without OpenVINO the first
    engine takes its place.
    """
    engine = DEFAULT_ENGINE
    if engine not in machine.engines:
        engine = next(iter(machine.engines), engine)
    return Arrangement(_variant(subject, subject.size_px, engine), engine, "f32")


def arrangements(subjects: Iterable[TriedModel], machine: Machine) -> list[Arrangement]:
    """All candidates in the default layout without batches, the cheapest first."""
    found = [one for subject in subjects for one in _of_subject(subject, machine)]
    return sorted(dict.fromkeys(found), key=lambda one: one.cost)


def refinements(one: Arrangement, machine: Machine) -> list[Arrangement]:
    """The same graph with other divisions of the cores, and in batches where it takes them."""
    cores = machine.cores
    layouts = [CoreLayout(instances=1, threads=cores, wide=False)]
    if cores > 1:
        layouts.append(CoreLayout(instances=cores, threads=1, wide=False))
    if cores > 3:
        layouts.append(CoreLayout(instances=cores // 2, threads=2, wide=False))
    found = [msgspec.structs.replace(one, layout=layout) for layout in layouts]
    if one.variant.dynamic_batch:
        found.append(msgspec.structs.replace(one, batching=Batching(max_batch=BATCH)))
    return found


def dynamic(one: Arrangement) -> Arrangement:
    """The same with a graph that takes any number of images, in batches."""
    variant = msgspec.structs.replace(one.variant, dynamic_batch=True)
    return msgspec.structs.replace(one, variant=variant, batching=Batching(max_batch=BATCH))


def _of_subject(subject: TriedModel, machine: Machine) -> Iterator[Arrangement]:
    for engine, precisions in machine.engines.items():
        for size in sizes(subject):
            graph = _variant(subject, size, engine)
            for precision in precisions:
                yield Arrangement(graph, engine, precision)
            if engine in machine.compresses and subject.precision == "f32":
                quantised = msgspec.structs.replace(
                    graph, int8=True, format=graph.format or FORMATS[engine]
                )
                for precision in precisions:
                    yield Arrangement(quantised, engine, precision)


def _variant(subject: TriedModel, size: tuple[int, int], engine: str) -> Variant:
    own = size == subject.size_px and bool({*_readable(engine)} & {*subject.formats})
    return Variant(
        subject.name,
        subject.digest,
        size,
        "" if own else FORMATS.get(engine, "onnx"),
        dynamic_batch=own and subject.takes_batches,
    )


def _readable(engine: str) -> Sequence[str]:
    return ("openvino", "onnx") if engine == "openvino" else ("onnx",)


def _multiple(side: float) -> int:
    return max(STRIDE_PX, round(side / STRIDE_PX) * STRIDE_PX)
