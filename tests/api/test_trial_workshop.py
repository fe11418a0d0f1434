"""The workshop on this machine, with the tiny detector."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.api.trial_workshop import LocalWorkshop, subject_of, this_machine
from seatrial.artifact import Artifact, Store
from seatrial.datasets.read import read_labelled
from seatrial.deployment import CoreLayout
from seatrial.errors import InvalidConfig
from seatrial.export.options import ExportOptions
from seatrial.export.run import export
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.run import compress_int8
from seatrial.system import hardware
from seatrial.trial.candidates import Arrangement, Machine, Variant, arrangements

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
    assert found.cpu == hardware.cpu()
    assert 0 < found.memory_gib <= hardware.memory_total_bytes() / 2**30 + 1
    assert {"python", "seatrial", "openvino", "onnxruntime"} <= {*found.versions}
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


def int8(artifact: Artifact) -> Variant:
    able = msgspec.structs.replace(PLAIN, compresses=("onnxruntime",))
    found = arrangements([subject_of(artifact)], able)
    return next(one.variant for one in found if one.variant.int8)


def test_int8_of_the_store_is_taken_where_its_images_and_recipe_are_the_same(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path
) -> None:
    """One of other images stays as it is: it may be somebody's."""
    store, variant = Store(tmp_path / "store"), int8(tiny_artifact)
    first_images, others = scenes, tmp_path / "others"
    others.mkdir()
    shutil.copyfile(min(scenes.glob("*.png")), others / "one.png")

    def made(calibration: Path) -> tuple[str, str]:
        return LocalWorkshop(store, (tiny_artifact,), None, scenes, calibration).make(variant)

    first = made(first_images)
    assert made(first_images) == first
    other = made(others)
    assert other[0].startswith(f"{first[0]}-")
    assert other[1] != first[1]
    # Both are found again, by their images and not by their name.
    copy = tmp_path / "moved"
    shutil.copytree(others, copy)
    assert (made(first_images), made(copy)) == (first, other)
    assert len(store.names()) == 3


def test_int8_that_was_made_by_another_recipe_is_not_taken(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path
) -> None:
    store, variant = Store(tmp_path / "store"), int8(tiny_artifact)
    workshop = LocalWorkshop(store, (tiny_artifact,), None, scenes, scenes)
    parent = workshop.open(workshop.make(variant.floated)[0])
    options = QuantiseOptions("onnxruntime", LossLimits(1.0, 1.0, 50), recipes=("minmax",))
    own, _ = compress_int8(
        store, parent, options, calibration=scenes, name=f"{parent.manifest.name}-int8",
    )  # fmt: skip
    assert workshop.make(variant)[0] != own.manifest.name
    assert store.open(own.manifest.name).digest == own.digest


def test_an_export_of_the_store_with_other_options_is_not_taken(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path
) -> None:
    store, variant = Store(tmp_path / "store"), int8(tiny_artifact).floated
    workshop = LocalWorkshop(store, (tiny_artifact,), None, scenes, scenes)
    name, digest = workshop.make(variant)
    assert workshop.make(variant) == (name, digest)
    other = Store(tmp_path / "other")
    half = export(
        other, tiny_artifact, ExportOptions("onnx", precision="f16"), images=scenes, name=name
    )
    made = LocalWorkshop(other, (tiny_artifact,), None, scenes, scenes).make(variant)
    assert made[0].startswith(f"{name}-")
    assert other.open(made[0]).manifest.precision == "f32"
    assert other.open(name).digest == half.digest


def test_what_is_damaged_is_made_again(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path
) -> None:
    store, variant = Store(tmp_path / "store"), int8(tiny_artifact).floated
    made = LocalWorkshop(store, (tiny_artifact,), None, scenes, scenes).make(variant)
    for file in (tmp_path / "store" / made[0]).glob("*.onnx"):
        file.write_bytes(b"torn")
    assert LocalWorkshop(store, (tiny_artifact,), None, scenes, scenes).make(variant) == made


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
