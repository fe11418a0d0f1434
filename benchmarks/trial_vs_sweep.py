#!/usr/bin/env python3
"""Is the choice of a trial as good as that of an exhaustive sweep on the same machine?

    python benchmarks/trial_vs_sweep.py CONTRACT.toml --model yolo11n.pt --dataset coco:FOLDER

The trial has 15 minutes. Then all engines, precisions, canvases and INT8 are judged and timed, with
each division of the cores; each one that the trial may recommend (its accuracy holds; undecided
ones where none holds) and whose engine is not far slower than the fastest is served for --each
seconds, and the best of them --finals times more, by turns. The capacities are compared: that of
the trial's choice, as the sweep measures it, over the best one of the sweep. Both keep a journal: a
sweep that was ended goes on. The published figures are of `benchmarks/trial_vs_sweep.toml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from measure import save

from seatrial.api.home import store
from seatrial.api.trial_workshop import LocalWorkshop, subject_of, this_machine
from seatrial.api.trying import find_deployment
from seatrial.config import encode_json
from seatrial.contract import Contract
from seatrial.datasets.read import read_labelled
from seatrial.load.images import load_images
from seatrial.models.resolve import resolve
from seatrial.trial.candidates import arrangements, default_arrangement, refinements
from seatrial.trial.journal import TrialJournal, TurnEntry
from seatrial.trial.plan import images_folder
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.question import TrialPlan
from seatrial.trial.race import Capacity
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget, read_budget

app = App()
UNLIMITED_S = 86_400.0
FINALISTS = 5


class Swept(msgspec.Struct, frozen=True):
    """A candidate of the sweep."""

    name: str
    accuracy: str
    raw_hz: float
    capacity: Capacity | None
    turns: int


class Sweep(Preparation):
    """A preparation that leaves nothing out but what fails the accuracy."""

    def every(self) -> list[Prepared]:
        """All candidates that run here, and whose accuracy does not fail."""
        self._prepare(default_arrangement(self.subjects[0], self.machine), must=True)
        plain = arrangements(self.subjects, self.machine)
        others = (other for one in plain for other in refinements(one, self.machine))
        for one in [*plain, *others]:
            if one.key not in self.found:
                self._prepare(one)
        return [one for one in self.found.values() if one.raw and one.outcome != "fails"]

    def _pointless(self, one: object) -> str:
        return ""


@app.default
def main(
    contract: Path,
    /,
    *,
    model: str,
    dataset: str,
    annotations: Path | None = None,
    calibration: Path | None = None,
    budget: str = "15m",
    each: float = 45.0,
    finals: int = 3,
    least: float = 0.6,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("sweep"),
) -> None:
    """Run the trial, then the sweep, and print both.

    Args:
        contract: TOML file.
        model: Model file or name.
        dataset: Labelled images.
        annotations: Their labels.
        calibration: Images for INT8.
        budget: Of the trial.
        each: Seconds of load in a turn of a candidate.
        finals: Turns that the best have after the first one, one after the other in each round.
        least: Raw speed, as a share of the best one's, below which a candidate is not served: no
            service is that much nearer to its engine than another one.
        output: Folder.
    """
    report = find_deployment(
        contract, [model], dataset=dataset, annotations=annotations, calibration=calibration,
        budget=budget, allow_pickle=True, output=output / "trial", on_progress=_say,
    )  # fmt: skip
    print(report.statement)
    wanted, labelled = Contract.read(contract), read_labelled(dataset, annotations)
    folder = images_folder(labelled)
    artifact = resolve(store(), model, allow_pickle=True)
    images, machine = load_images(folder, limit=256, seed=0), this_machine()
    plan = TrialPlan(
        wanted, (subject_of(artifact),), machine, images, labelled.digest(), read_budget(budget)
    )
    workshop = LocalWorkshop(store(), (artifact,), labelled, folder, calibration or folder)
    place = output / "sweep"
    place.mkdir(parents=True, exist_ok=True)
    journal = TrialJournal(place, plan.key)
    clock = TimeBudget(UNLIMITED_S, journal.spent_s)
    sweep = Sweep(wanted, plan.subjects, machine, workshop, journal, clock, _say)
    bench = Bench(wanted, images, workshop, journal, clock, place, _say)
    every = sorted(sweep.every(), key=lambda one: -_raw_hz(one))
    # The trial recommends no undecided accuracy where another one holds: nor does the sweep.
    sound = [one for one in every if one.outcome == "holds"] or every
    fastest_hz = max(_raw_hz(one) for one in sound)
    entrants = [
        one for one in sound if _raw_hz(one) >= least * fastest_hz or one.one.words == report.chosen
    ]

    def turns(state: Prepared) -> int:
        return len(journal.of(TurnEntry, state.one.key))

    for state in entrants:
        if not turns(state):
            bench.turn(state, each + bench.start_s)
    best_first = sorted(entrants, key=lambda one: -_rate_hz(bench, one))
    finalists = best_first[:FINALISTS]
    finalists += [one for one in best_first[FINALISTS:] if one.one.words == report.chosen]
    for number in range(finals):
        for state in finalists:
            if turns(state) < 2 + number:
                bench.turn(state, each + bench.start_s)
    found = [
        Swept(one.one.words, one.outcome, _raw_hz(one), bench.capacity(one.one.key), turns(one))
        for one in every
    ]
    best = max(finalists, key=lambda one: _rate_hz(bench, one))
    again = next((one for one in finalists if one.one.words == report.chosen), None)
    share = None if again is None else _rate_hz(bench, again) / _rate_hz(bench, best)
    names = {one.one.words for one in entrants}
    rows = [one for one in found if one.capacity is not None and one.name in names]
    (output / "trial_vs_sweep.json").write_bytes(encode_json(found))
    save(
        "trial_vs_sweep",
        {
            "trial_s": round(report.elapsed_s),
            "budget_s": report.budget_s,
            "choice_of_the_trial": report.chosen,
            "choice_over_best": share,
            "best_of_the_sweep": best.one.words,
            "sweep_s": round(clock.spent_s),
            "candidates": len(found),
            "served": len(rows),
        }
        | {
            one.name: {
                "raw_per_s": one.raw_hz,
                "capacity_per_s": one.capacity.rate_hz,
                "low_per_s": one.capacity.low_hz,
                "high_per_s": one.capacity.high_hz,
                "turns": one.turns,
            }
            for one in sorted(rows, key=lambda one: -one.capacity.rate_hz if one.capacity else 0)
            if one.capacity is not None
        },
    )
    for one in found:
        print(f"{one.name}: raw {one.raw_hz:.3g}/s, {one.capacity}")
    print(f"best of the sweep: {best.one.words}")
    print(f"choice of the trial: {report.chosen}, {share} of the best, {report.elapsed_s:.0f} s")


def _raw_hz(state: Prepared) -> float:
    return 0.0 if state.raw is None else state.raw.rate_hz


def _rate_hz(bench: Bench, state: Prepared) -> float:
    capacity = bench.capacity(state.one.key)
    return 0.0 if capacity is None else capacity.rate_hz


def _say(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    if not done:
        print(what, flush=True)


if __name__ == "__main__":
    app()
