"""The workshop on this machine, with the tiny detector."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from seatrial.api.trial_workshop import LocalWorkshop, subject_of, this_machine
from seatrial.artifact import Artifact, Store
from seatrial.datasets.read import read_labelled
from seatrial.deployment import CoreLayout
from seatrial.errors import InvalidConfig
from seatrial.system import hardware
from seatrial.trial.candidates import Arrangement, Machine, arrangements

pytestmark = pytest.mark.slow

PLAIN = Machine(2, {"openvino": ("f32",), "onnxruntime": ("f32",)})


@pytest.fixture
def workshop(tiny_artifact: Artifact, scenes: Path) -> LocalWorkshop:
    return LocalWorkshop(
        Store(tiny_artifact.path.parent), (tiny_artifact,), read_labelled(f"coco:{scenes}"),
        scenes, scenes,
    )  # fmt: skip


def plain(artifact: Artifact, engine: str = "openvino") -> Arrangement:
    found = arrangements([subject_of(artifact)], PLAIN)
    return next(one for one in found if one.engine == engine)


def test_a_graph_is_a_subject_of_one_size(tiny_artifact: Artifact) -> None:
    subject = subject_of(tiny_artifact)
    assert (subject.size_px, subject.formats, subject.resizable) == ((64, 64), ("onnx",), False)
    assert not subject.takes_batches
    assert subject.digest == tiny_artifact.digest


def test_the_machine_has_the_engines_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = this_machine()
    assert found.cores == hardware.usable_cores()
    assert found.engines["openvino"][0] == "f32"
    assert found.engines["onnxruntime"] == ("f32",)
    bare = msgspec.structs.replace(hardware.cpu(), features=("avx2",))
    monkeypatch.setattr(hardware, "cpu", lambda: bare)
    assert this_machine().engines["openvino"] == ("f32",)
    able = msgspec.structs.replace(bare, features=("avx512_bf16",))
    monkeypatch.setattr(hardware, "cpu", lambda: able)
    assert this_machine().engines["openvino"] == ("f32", "bf16")


def test_a_model_that_is_served_as_it_is_is_not_made(
    workshop: LocalWorkshop, tiny_artifact: Artifact
) -> None:
    made = workshop.make(plain(tiny_artifact).variant)
    assert made == (tiny_artifact.manifest.name, tiny_artifact.digest)


def test_accuracy_is_that_of_the_arrangement_with_the_draws_of_the_bootstrap(
    workshop: LocalWorkshop, tiny_artifact: Artifact
) -> None:
    for engine in ("openvino", "onnxruntime"):
        one = plain(tiny_artifact, engine)
        score = workshop.score(one, tiny_artifact.manifest.name)
        assert score.key == one.numerics
        assert score.figures["ap"] == pytest.approx(1.0, abs=0.01)
        assert {*score.intervals} == {"ap", "ap50", "ar100"}
        assert len(score.drawn_ap) == 1000
        assert score.flattered == ""


def test_accuracy_needs_labels(tiny_artifact: Artifact, scenes: Path) -> None:
    bare = LocalWorkshop(Store(tiny_artifact.path.parent), (tiny_artifact,), None, scenes, scenes)
    with pytest.raises(InvalidConfig, match="without labelled images"):
        bare.score(plain(tiny_artifact), tiny_artifact.manifest.name)


def test_raw_speed_has_its_rounds_and_the_time_of_one_image(
    workshop: LocalWorkshop, tiny_artifact: Artifact
) -> None:
    one = plain(tiny_artifact)
    lanes = msgspec.structs.replace(one, layout=CoreLayout(instances=1, threads=1, wide=False))
    found = workshop.raw_speed(lanes, tiny_artifact.manifest.name)
    assert found.key == lanes.key
    assert 0 < found.low_hz <= found.rate_hz <= found.high_hz
    # One lane, one image after the other; the least of eight is no slower than the mean by much.
    assert found.lone_ms < 3e3 / found.low_hz


def test_a_service_answers_and_is_gone_after_the_block(
    workshop: LocalWorkshop, tiny_artifact: Artifact, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import httpx

    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    with workshop.serve(plain(tiny_artifact), tiny_artifact.manifest.name) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz")
