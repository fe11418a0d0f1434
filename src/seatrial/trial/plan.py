"""The measurements that a contract needs: images, scenarios, times."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seatrial.bench.options import SINGLE_STREAM_S, BenchOptions, MeasureOptions, require_client
from seatrial.client.transport import check_client
from seatrial.contract import Contract, LatencyClause
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidConfig
from seatrial.load.statistics import PERCENTILES, samples_needed

if TYPE_CHECKING:  # needs the extra for benchmarks
    from seatrial.load.images import ImageSet

Split = Literal["train", "val", "test"]

# No longer than this for lone requests, however slow the contract lets them be.
LONGEST_SINGLE_STREAM_S = 180.0


@dataclass(frozen=True, slots=True)
class JudgePlan:
    """Everything that is measured for a contract, read and checked before a service is started.

    Attributes:
        contract: The contract.
        labelled: Labelled images; None without any.
        load: Options of the benchmark; None where the contract judges accuracy alone.
        images: The images that `load` names; None without it.
        read: Files that were read, which no report may overwrite.
    """

    contract: Contract
    labelled: LabelledSet | None
    load: BenchOptions | None
    images: ImageSet | None
    read: tuple[Path, ...] = ()


def read_trial(
    contract: Path,
    *,
    dataset: str | None = None,
    annotations: Path | None = None,
    split: Split = "test",
    skip_missing: bool = False,
    images: Path | None = None,
    measure: MeasureOptions | None = None,
    max_pixels: int | None = None,
) -> JudgePlan:
    """Read a contract and the images that it is judged on.

    Args:
        contract: TOML file.
        dataset: Labelled images: ``coco:FOLDER``, ``yolo:FOLDER`` or ``voc:FOLDER``.
        annotations: Their labels; default: found in the folder.
        split: Which set, where the folder has several.
        skip_missing: Leave out images that the labels name and that are not there.
        images: Folder of images to send; default: those of the dataset.
        measure: How much is measured, and how long.
        max_pixels: Largest image that the service takes (``limits.image_pixels``), where known.

    Raises:
        InvalidConfig: The contract or an option is wrong, or images are missing for a clause.
        InvalidDataset: Labels or images cannot be used.
        MissingExtra: A package that the measurements need is not installed.
    """
    require_client()
    from seatrial.bench.scenarios import plan
    from seatrial.load.images import load_images

    wanted = Contract.read(contract, judged=["accuracy", "latency", "load", "server"])
    labelled = None
    if dataset is not None:
        labelled = read_labelled(dataset, annotations, split=split, skip_missing=skip_missing)
    check_labels(wanted, labelled)
    read = (contract, *filter(None, [annotations]), *(labelled.files() if labelled else ()))
    if wanted.judges("accuracy"):
        check_client()
    load = load_options(wanted, measure or MeasureOptions(), images, labelled)
    if load is None:
        return JudgePlan(wanted, labelled, None, None, read)
    plan(load)
    sent = load_images(
        Path(load.images), limit=load.image_limit, seed=load.seed, max_pixels=max_pixels
    )
    return JudgePlan(wanted, labelled, load, sent, read)


def check_labels(contract: Contract, labelled: LabelledSet | None) -> None:
    """Check that there are labelled images where the contract judges accuracy.

    Raises:
        InvalidConfig: There are none.
    """
    if contract.judges("accuracy") and labelled is None:
        raise InvalidConfig(
            f"{contract.name!r} judges accuracy, and there are no labelled images",
            hint="give them: --dataset coco:FOLDER (yolo:, voc:), which training has not seen",
        )


def load_options(
    contract: Contract,
    options: MeasureOptions,
    images: Path | None,
    labelled: LabelledSet | None,
) -> BenchOptions | None:
    """Options of the benchmark that a contract needs; None where it judges accuracy alone.

    Lone requests are measured for as long as a service that just holds the contract needs for the
    sample of its percentile, unless the options say another time.

    Args:
        contract: The contract.
        options: How much is measured, and how long.
        images: Folder of images to send; default: that of the labelled ones.
        labelled: Labelled images, where there are any.

    Raises:
        InvalidConfig: There are no images to send.
    """
    needed = [("single-stream", "latency"), ("server", "server"), ("scaling", "load")]
    scenarios = tuple(name for name, table in needed if contract.judges(table))
    if not scenarios:
        return None
    folder = images or (None if labelled is None else images_folder(labelled))
    if folder is None:
        raise InvalidConfig(
            f"{contract.name!r} judges latency or load, and there are no images to send",
            hint="give a folder of images like those that the service will see: --images FOLDER",
        )
    plain = asdict(options)
    if contract.latency is not None and options.single_stream_s is None:
        plain["single_stream_s"] = max(SINGLE_STREAM_S, _sample_s(contract.latency))
    if contract.server is not None:
        plain |= {"rates": (contract.server.rate_per_s,), "arrivals": contract.server.arrivals}
    return BenchOptions(images=str(folder), scenarios=scenarios, **plain)


def images_folder(labelled: LabelledSet) -> Path:
    """The deepest folder that holds all images of a set."""
    return Path(os.path.commonpath([image.path.absolute().parent for image in labelled.images]))


def _sample_s(clause: LatencyClause) -> float:
    requests = samples_needed(PERCENTILES[clause.percentile])
    return min(LONGEST_SINGLE_STREAM_S, requests * clause.at_most_ms / 1e3)
