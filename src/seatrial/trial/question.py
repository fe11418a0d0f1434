"""The question of a trial: a contract, models, images and a machine, with a digest of all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from seatrial.contract import Contract
from seatrial.errors import InvalidConfig
from seatrial.load.images import ImageSet
from seatrial.trial.candidates import Machine, TriedModel


@dataclass
class TrialPlan:
    """The question of a trial, read and checked.

    Attributes:
        contract: The contract; it has a clause on the server.
        subjects: The models.
        machine: What can run here.
        images: Images that are sent.
        labels_digest: Digest of the labels; empty without any.
        budget_s: Time that is allowed, seconds.
        calibration_digest: Digest of the images that INT8 takes its ranges from; empty: those that
            are sent.
        seen_by_int8: Whether INT8 takes its ranges from the labelled images.
    """

    contract: Contract
    subjects: tuple[TriedModel, ...]
    machine: Machine
    images: ImageSet
    labels_digest: str
    budget_s: float
    calibration_digest: str = ""
    seen_by_int8: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """Digests of all that the measurements depend on, by name."""
        plain = {
            "contract": self.contract,
            "models": self.subjects,
            "machine": self.machine,
            "images": self.images.summary.digest,
            "labels": self.labels_digest,
            "calibration images": self.calibration_digest,
        }
        return {
            name: hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
            for name, value in plain.items()
        }

    @property
    def key(self) -> str:
        """Digest of all that the measurements depend on."""
        return hashlib.sha256(msgspec.json.encode(self.parts)).hexdigest()


def check_contract(contract: Contract) -> None:
    """Check that a contract asks what a trial answers.

    Raises:
        InvalidConfig: It has no clause on the server.
    """
    if contract.server is None:
        raise InvalidConfig(
            f"{contract.name!r} has no table [server]: there is no rate to hold",
            hint="for example rate_per_s = 20.0 and at_most_ms = 100.0",
        )
