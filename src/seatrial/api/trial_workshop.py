"""The workshop of a trial on this machine: exports, INT8, accuracy, engines, services."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import platform
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from seatrial.accuracy.bootstrap import intervals, resample
from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.predict import InProcess
from seatrial.api.services import started
from seatrial.artifact import Artifact, Store
from seatrial.conditions import PACKAGES
from seatrial.datasets.labels import LabelledSet
from seatrial.deployment import Precision
from seatrial.detect.opening import layout, open_detector
from seatrial.engines.base import Arrays, Lane, of_batch
from seatrial.engines.registry import check_takes_batches, engine_class, open_engine
from seatrial.errors import InvalidConfig, SeatrialError
from seatrial.export.options import ExportOptions
from seatrial.export.run import export
from seatrial.export.verify import ParentAnswers
from seatrial.progress import Progress, silent
from seatrial.quantise.calibration_images import check, choose, find_images
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.registry import open_backend
from seatrial.quantise.run import compress_int8
from seatrial.system import hardware
from seatrial.system.memory import memory_limit_bytes
from seatrial.system.versions import versions
from seatrial.trial.candidates import Arrangement, Machine, TriedModel, Variant
from seatrial.trial.journal import RawEntry, ScoreEntry
from seatrial.trial.preparation import median_rounds
from seatrial.trial.unseen import seen_before

# Recipe of each backend that is fast to make; the trial's own gate judges the result.
RECIPES = {"openvino": "fast-bias-correction", "onnxruntime": "percentile"}
CALIBRATION_IMAGES, COMPARED_IMAGES = 100, 16
# Rounds of the raw speed, and the length of each, seconds; times of one image alone.
ROUNDS, ROUND_S, LONE = 5, 0.3, 8
ENGINES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}  # engine -> module
NEEDS = {"openvino": "nncf", "onnxruntime": "onnxruntime"}  # of INT8
BF16 = {"avx512_bf16", "amx_bf16"}


class LocalWorkshop:
    """Makes and measures in this process; services run in processes of their own.

    Args:
        store: Takes the artifacts.
        subjects: The models, opened.
        labelled: Labelled images; None where accuracy is not judged.
        images: Folder of images on which exports are proven.
        calibration: Folder of images that INT8 ranges are taken from.
        on_progress: Called with the progress.
    """

    def __init__(
        self,
        store: Store,
        subjects: tuple[Artifact, ...],
        labelled: LabelledSet | None,
        images: Path,
        calibration: Path,
        on_progress: Progress = silent,
    ) -> None:
        self._store = store
        self._subjects = {one.digest: one for one in subjects}
        self._labelled = labelled
        self._images = images
        self._calibration = calibration
        self._on_progress = on_progress
        self._opened = {self._named(one): one for one in subjects}
        self._answers = ParentAnswers()

    def make(self, variant: Variant) -> tuple[str, str]:
        """Export or quantise, unless the store has the result of the very same work."""
        parent = self._subjects[variant.digest]
        if not variant.format:
            return self._known(parent)
        if variant.int8:
            floated = self.open(self.make(variant.floated)[0])
            engine = "openvino" if variant.format == "openvino" else "onnxruntime"
            return self._known(self._int8(floated, engine))
        options = ExportOptions(
            to="openvino" if variant.format == "openvino" else "onnx",
            imgsz=variant.size_px if variant.size_px != parent.manifest.preprocessing.size_hw
            else None,
            dynamic_batch=variant.dynamic_batch,
        )  # fmt: skip
        name, found = self._place(_name(variant), parent, "export", options.config())
        if found is None:
            found = export(
                self._store,
                parent,
                options,
                images=self._images,
                name=name,
                replace=True,
                known=self._answers,
                on_progress=self._on_progress,
            )
        return self._known(found)

    def score(self, one: Arrangement, artifact: str) -> ScoreEntry:
        """Accuracy by the code that serves, in this process."""
        if self._labelled is None:
            raise InvalidConfig("accuracy cannot be measured without labelled images")
        opened = self.open(artifact)
        with open_detector(opened, one.deployment(artifact)) as detector:
            measured = evaluate(InProcess(detector), self._labelled, on_progress=self._on_progress)
        figures = measured.report.scores.figures
        ends = intervals(measured.matches)
        drawn = resample(measured.matches).drawn if ends else np.empty(0)
        return ScoreEntry(
            one.numerics,
            {name: getattr(figures, name) for name in ("ap", "ap50", "ar100")},
            ends,
            tuple(round(value, 6) for value in drawn.tolist()),
            seen_before(self._store.lineage(opened), measured.report.labels_digest),
        )

    def raw_speed(self, one: Arrangement, artifact: str) -> RawEntry:
        """Images per second of all lanes of one process, on noise of the input's shape."""
        opened = self.open(artifact)
        _, config = layout(one.deployment(artifact))
        engine = open_engine(opened, one.engine, config)
        with contextlib.closing(engine), ThreadPoolExecutor(len(engine.narrow)) as pool:
            batch = config.max_batch
            feeds = _noise(opened, batch)

            def rate_hz() -> float:
                return batch * sum(pool.map(lambda lane: _rate_hz(lane, feeds), engine.narrow))

            rate_hz()  # warm-up
            rounds = [rate_hz() for _ in range(ROUNDS)]
            alone = _noise(opened, 1)
            lane = engine.wide or engine.narrow[0]
            lone_s = min(_seconds(lane, alone) for _ in range(LONE))
        low, middle, high = median_rounds(rounds)
        return RawEntry(one.key, middle, low, high, 1e3 * lone_s)

    @contextlib.contextmanager
    def serve(self, one: Arrangement, artifact: str) -> Iterator[str]:
        """The service that ``seatrial serve`` starts, on a free port."""
        with started(one.deployment(artifact), self.open(artifact), silent) as service:
            yield service.url

    def open(self, name: str) -> Artifact:
        """An artifact by the name that `make` gave."""
        if name not in self._opened:
            self._opened[name] = self._store.open(name)
        return self._opened[name]

    def _known(self, artifact: Artifact) -> tuple[str, str]:
        name = self._named(artifact)
        self._opened[name] = artifact
        return name, artifact.digest

    def _named(self, artifact: Artifact) -> str:
        """Name by which a deployment finds an artifact: a path, where it is not in the store."""
        name = artifact.manifest.name
        known = (self._store.root, self._store.imports.root)
        return name if artifact.path.parent in known else str(artifact.path.absolute())

    def _int8(self, parent: Artifact, engine: str) -> Artifact:
        to: Literal["openvino", "onnxruntime"] = (
            "openvino" if engine == "openvino" else "onnxruntime"
        )
        work = {
            **open_backend(to).config(),
            "to": to,
            "recipe": RECIPES[engine],
            "float_layers": [],
            "calibration": {"sha256": self._ranges},
        }
        name, found = self._place(f"{parent.manifest.name}-int8", parent, "compress-int8", work)
        if found is not None:
            return found
        # What INT8 may lose is judged by the contract, on the labelled images.
        options = QuantiseOptions(
            to=to,
            gate=LossLimits(drop=1.0, shift=1.0, samples=50),
            calibration=CALIBRATION_IMAGES,
            recipes=(RECIPES[engine],),
            most_restored=0,
        )
        made, _ = compress_int8(
            self._store,
            parent,
            options,
            calibration=self._calibration,
            labelled=None if self._labelled is None else _few(self._labelled),
            name=name,
            replace=True,
            on_progress=self._on_progress,
        )
        return made

    @cached_property
    def _ranges(self) -> str:
        """Digest of the images that INT8 ranges are taken from, as its manifest has it."""
        drawn = choose(find_images(self._calibration), CALIBRATION_IMAGES, QuantiseOptions.seed)
        return check(drawn, "calibration", self._on_progress).digest

    def _place(
        self, name: str, parent: Artifact, step: str, work: Mapping[str, Any]
    ) -> tuple[str, Artifact | None]:
        """A name in the store for the result of a work, and the artifact where it is there.

        An artifact of that name that comes of other work (another parent, other images for INT8)
        may be somebody's: it stays, and a digest is added to the name of this one.

        Args:
            name: Usual name.
            parent: What it is made of.
            step: Name of the step that makes it.
            work: Values that the configuration of the step has to have.
        """
        wanted = msgspec.json.decode(msgspec.json.encode(work))
        key = hashlib.sha256(msgspec.json.encode((parent.digest, step, wanted), order="sorted"))
        own = f"{name}-{key.hexdigest()[:8]}"
        for one in (name, own):
            if not self._store.has(one):
                return one, None
            try:
                found = self._store.open(one)
            except SeatrialError:  # damaged: it is made again
                return one, None
            done = found.manifest.step
            same = found.manifest.parent == parent.digest and done.name == step
            if same and _within(wanted, done.config):
                return one, found
        return own, None


def subject_of(artifact: Artifact) -> TriedModel:
    """The facts of a model that the plan of a trial needs."""
    manifest = artifact.manifest
    formats = tuple(name for name in manifest.formats if name in ("onnx", "openvino"))
    batches = bool(formats)
    if formats:
        try:
            check_takes_batches(artifact)
        except InvalidConfig:
            batches = False
    height, width = manifest.preprocessing.size_hw
    return TriedModel(
        manifest.name,
        artifact.digest,
        (height, width),
        formats,
        manifest.precision,
        resizable=not formats,
        takes_batches=batches,
    )


def this_machine() -> Machine:
    """This machine: its engines and what they compute in, its processor, memory and versions."""
    cpu = hardware.cpu()
    engines: dict[str, tuple[Precision, ...]] = {}
    for name, module in ENGINES.items():
        if importlib.util.find_spec(module) is not None:
            engine_class(name)
            bf16 = name == "openvino" and bool(BF16 & {*cpu.features})
            engines[name] = ("f32", "bf16") if bf16 else ("f32",)
    able = tuple(name for name in engines if importlib.util.find_spec(NEEDS[name]) is not None)
    return Machine(
        cpu.cores,
        engines,
        able,
        cpu,
        round(memory_limit_bytes() / 2**30),
        {"python": platform.python_version(), **versions(*PACKAGES, "nncf")},
    )


def _within(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether all wanted values are found; of tables those that are wanted."""
    return all(
        isinstance(found.get(key), Mapping) and _within(value, found[key])
        if isinstance(value, Mapping)
        else found.get(key) == value
        for key, value in wanted.items()
    )


def _few(labelled: LabelledSet) -> LabelledSet:
    """The first images of a set: the quantiser compares on them, and the contract judges later."""
    chosen = np.arange(len(labelled.images)) < COMPARED_IMAGES
    return labelled.select(chosen, np.ones(len(labelled.truth), bool))


def _name(variant: Variant) -> str:
    """Name of an export in the store."""
    height, width = variant.size_px
    size = f"{height}" if height == width else f"{height}x{width}"
    batch = "-batch" if variant.dynamic_batch else ""
    return f"{variant.model}-{variant.format}-{size}{batch}"


def _noise(artifact: Artifact, batch: int) -> Arrays:
    chance = np.random.default_rng(0)
    feeds = {}
    for spec in artifact.manifest.inputs:
        values = chance.integers(0, 256, of_batch(spec.shape, batch))
        scale = 255.0 if spec.dtype.startswith("float") else 1.0
        feeds[spec.name] = (values / scale).astype(spec.dtype)
    return feeds


def _rate_hz(lane: Lane, feeds: Arrays) -> float:
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < ROUND_S or count < 2:
        lane.infer(feeds)
        count += 1
    return count / (time.perf_counter() - begun)


def _seconds(lane: Lane, feeds: Arrays) -> float:
    begun = time.perf_counter()
    lane.infer(feeds)
    return time.perf_counter() - begun
