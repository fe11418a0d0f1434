"""``seatrial.bench`` of several runtimes and protocols; tests/cli has Triton among them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import seatrial
from seatrial.api.side_by_side import bench_runtimes
from seatrial.artifact import Artifact
from seatrial.bench.options import BenchOptions
from seatrial.bench.side_by_side import read_side_by_side
from seatrial.bench.side_by_side_page import write_side_by_side
from seatrial.deployment import Deployment, Server
from seatrial.errors import InvalidConfig


@pytest.mark.slow
def test_bench_of_lists_measures_side_by_side(
    tiny_artifact: Artifact, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that is not here is named, and the other is measured."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(photo)
    options = BenchOptions(
        images=str(folder), scenarios=("scaling",), sessions=(1,), point_s=0.3, warmup_s=0
    )
    report = seatrial.bench(
        options,
        model=tiny_artifact.path,
        engine="onnxruntime",
        wide=False,
        on=["triton", "uvicorn"],
        protocol=["http", "v2"],
        rounds=1,
        triton_python=sys.executable,  # has no Triton
    )
    assert [one.name for one in report.setups] == [
        "triton, http", "triton, v2", "uvicorn, http", "uvicorn, v2",
    ]  # fmt: skip
    assert all("Triton" in one.missing or "models" in one.missing for one in report.setups[:2])
    for setup in report.setups[2:]:
        (one,) = setup.reports
        assert one.target.protocol == setup.protocol
        assert one.runs[0].points[0].detections_mean == 1.0
    assert {(row.runtime, row.protocol) for row in report.rows} == {
        ("uvicorn", "http"), ("uvicorn", "v2"),
    }  # fmt: skip
    html, data = write_side_by_side(report, tmp_path / "report.html")
    assert read_side_by_side(data).rows == report.rows
    assert html.is_file()


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"protocol": "htpp"}, "unknown protocol 'htpp'", "did you mean 'http'?"),
        ({"protocol": ["v2", "htpp"]}, "unknown protocol 'htpp'", "did you mean 'http'?"),
        ({"protocol": 5}, "unknown protocol 5", "known: http, v2, grpc"),
        ({"on": "uvicron"}, "unknown runtime 'uvicron'", "did you mean 'uvicorn'?"),
        ({"on": ["uvicron", "uvicorn"]}, "unknown runtime 'uvicron'", "did you mean 'uvicorn'?"),
        ({"rounds": 0}, "rounds must be a whole number from 1 on, not 0", ""),
        ({"rounds": "2"}, "rounds must be a whole number from 1 on, not '2'", ""),
    ],
)
def test_a_wrong_word_is_an_error_before_anything_starts(
    options: dict[str, Any], said: str, hint: str,
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("seatrial.api.services.started", lambda *_: pytest.fail("it started"))
    with pytest.raises(InvalidConfig) as caught:
        seatrial.bench("no images", model=tiny_artifact.path, **options)
    assert (caught.value.message, caught.value.hint) == (said, hint)


@pytest.mark.parametrize(
    ("runtime", "on", "protocols", "runtimes", "wanted"),
    [
        ("bentoml", (), (), ("bentoml",), ("http",)),
        ("triton", (), (), ("triton",), ("v2",)),
        ("bentoml", ("triton",), (), ("triton",), ("v2",)),
        ("bentoml", ("triton", "uvicorn"), (), ("triton", "uvicorn"), ("v2", "grpc")),
        ("bentoml", ("uvicorn", "uvicorn"), ("grpc", "http", "grpc"), ("uvicorn",),
         ("grpc", "http")),
    ],
)  # fmt: skip
def test_what_is_measured_where_nothing_else_is_said(
    runtime: Any, on: Any, protocols: Any, runtimes: Any, wanted: Any,
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[Any] = []

    def measure(*what: Any, rounds: int, **_: Any) -> None:
        asked.append((what[0], what[1], rounds))

    monkeypatch.setattr("seatrial.bench.rounds.measure_side_by_side", measure)
    deployment = Deployment("tiny", server=Server(runtime=runtime))
    for rounds, number in ((None, 3), (1, 1)):
        bench_runtimes(
            deployment, tiny_artifact, on, protocols, BenchOptions(images="x"), None,  # type: ignore[arg-type]
            rounds, print,
        )  # fmt: skip
        assert asked.pop() == (runtimes, wanted, number)


@pytest.mark.parametrize(
    ("given", "named"),
    [({}, "./models/tiny"), ({"model": "{folder}/models/tiny"}, "{folder}/models/tiny")],
)
def test_the_report_names_the_model_as_it_was_named(
    given: dict[str, str], named: str, tiny_artifact: Artifact, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A report does not show the folder of the deployment file."""
    told: list[Any] = []
    monkeypatch.setattr(
        "seatrial.bench.rounds.measure_side_by_side",
        lambda *_, deployment, **__: told.append(deployment["model"]),
    )
    monkeypatch.setattr("seatrial.load.images.load_images", lambda *_, **__: None)
    shutil.copytree(tiny_artifact.path, tmp_path / "models" / "tiny")
    (tmp_path / "deployment.toml").write_text('model = "./models/tiny"\n')
    seatrial.bench(
        "photos", deployment=tmp_path / "deployment.toml", rounds=1,
        **{key: text.format(folder=tmp_path) for key, text in given.items()},
    )  # fmt: skip
    assert told == [named.format(folder=tmp_path).removeprefix("./")]
