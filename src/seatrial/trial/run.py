"""One service against one contract: measures what the contract needs, and rules on all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import msgspec

from seatrial.accuracy.bootstrap import intervals
from seatrial.accuracy.evaluate import Evaluation, Scored, evaluate
from seatrial.accuracy.inference_service import RemoteInference, running_subject
from seatrial.accuracy.service import RemoteDetector
from seatrial.artifact import Artifact
from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import run_benchmark
from seatrial.client.credentials import NONE, Credentials
from seatrial.conditions import conditions
from seatrial.datasets.labels import LabelledSet
from seatrial.load.inference import named_model
from seatrial.load.target import DETECT, Target
from seatrial.progress import Progress, silent
from seatrial.trial.plan import JudgePlan
from seatrial.trial.report import SCHEMA, VerdictReport
from seatrial.trial.unseen import seen_before
from seatrial.trial.verdict import Accuracy, elsewhere, judge_contract


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and the reports that it rests on.

    Attributes:
        report: The verdict.
        evaluation: Accuracy; None where the contract does not judge it.
        benchmark: Latency and load; None where the contract judges neither.
    """

    report: VerdictReport
    evaluation: Evaluation | None
    benchmark: BenchReport | None
    scored: Scored | None = None


def judge_service(
    target: Target,
    trial: JudgePlan,
    *,
    lineage: Callable[[str], Iterable[Artifact]] = lambda digest: (),
    command: str = "",
    on_progress: Progress = silent,
    credentials: Credentials = NONE,
) -> Judgement:
    """Measure a running service, accuracy first, and judge it.

    Accuracy is measured through the service too: what is judged is what its clients get.

    Args:
        target: The service.
        trial: The contract and the images.
        lineage: Takes the digest that the service reports; gives its artifact and those that it
            was made of, as far as they are known here.
        command: The command that a reader repeats this with.
        on_progress: Called with the progress.
        credentials: What the service wants to see; no report has anything of it.

    Raises:
        InvalidDataset: Labels of model and dataset do not match, or an image is unusable.
        ServiceFailed: The service does not answer, or does not describe itself.
    """
    begun = perf_counter()
    made = conditions(command)
    contract, load = trial.contract, trial.load
    accuracy = evaluation = benchmark = scored = None
    if contract.judges("accuracy") and trial.labelled is not None:
        with contextlib.closing(
            running_subject(target.url, named_model(target.path), credentials=credentials)
        ) as service:
            if isinstance(service, RemoteInference) and target.path == DETECT:
                # All clauses are of one model: the first that takes an image may be another one.
                target = msgspec.structs.replace(target, path=service.named.infer_path)
            scored, accuracy = _accuracy(service, trial.labelled, lineage, command, on_progress)
        verdict = judge_contract(contract, accuracy=accuracy)
        evaluation = msgspec.structs.replace(scored.report, verdict=verdict)
    if load is not None:
        benchmark = run_benchmark(
            target,
            load,
            on_progress,
            command=command,
            images=trial.images,
            credentials=credentials,
        )
        verdict = judge_contract(contract, report=benchmark)
        benchmark = msgspec.structs.replace(benchmark, verdict=verdict)
    report = VerdictReport(
        schema=SCHEMA,
        created_at=made.created_at,
        command=command,
        elapsed_s=perf_counter() - begun,
        contract=contract,
        service=_service(target, evaluation, benchmark),
        verdict=judge_contract(contract, accuracy=accuracy, report=benchmark),
        elsewhere=None if benchmark is None else _elsewhere(benchmark),
        conditions=made,
    )
    return Judgement(report, evaluation, benchmark, scored)


def _accuracy(
    service: RemoteDetector,
    labelled: LabelledSet,
    lineage: Callable[[str], Iterable[Artifact]],
    command: str,
    on_progress: Progress,
) -> tuple[Scored, Accuracy]:
    measured = evaluate(service, labelled, command=command, on_progress=on_progress)
    flattered = seen_before(lineage(service.digest), measured.report.labels_digest)
    ends = intervals(measured.matches)
    report = msgspec.structs.replace(measured.report, intervals=ends)
    return replace(measured, report=report), Accuracy(report.scores.figures, ends, flattered)


def _service(
    target: Target, evaluation: Evaluation | None, benchmark: BenchReport | None
) -> dict[str, Any]:
    """Address of the service, and its own words about itself."""
    told: dict[str, Any] = {} if evaluation is None else dict(evaluation.subject)
    if benchmark is not None and benchmark.model is not None:
        told |= benchmark.model  # of a Triton it has less than what accuracy was measured with
    keys = ("name", "digest", "engine", "device", "precision")
    return {"url": target.url, **{key: told[key] for key in keys if key in told}}


def _elsewhere(report: BenchReport) -> float:
    cores = report.environment.cpu.cores
    return max(elsewhere(point, cores) for run in report.runs for point in run.points)
