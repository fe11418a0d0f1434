from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import any_text
from seatrial.config import decode_toml
from seatrial.deployment import (
    CoreLayout,
    Deployment,
    DetectionDefaults,
    Limits,
    Server,
    Thresholds,
)
from seatrial.errors import InvalidConfig

few = st.none() | st.integers(1, 1024)
maybe = st.none() | st.floats(0, 1)
deployments = st.builds(
    Deployment,
    model=any_text.text(),
    engine=any_text.text(),
    device=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(["f32", "bf16", "f16"]),
    layout=st.builds(CoreLayout, few, few, few, st.booleans()),
    detection=st.builds(DetectionDefaults, maybe, maybe, st.integers(1, 30_000), st.booleans()),
    limits=st.builds(
        Limits,
        st.integers(1, 2**31),
        st.integers(1, 2**30),
        st.integers(1, 100_000),
        st.integers(1, 2**31),
        st.floats(0.001, 86_400),
        st.none() | st.floats(0.001, 86_400),
        st.floats(0.001, 86_400),
        st.integers(1, 86_400),
        st.integers(1, 30_000),
        st.none() | st.integers(1, 100_000),
        st.floats(0.001, 86_400),
        st.floats(0.001, 86_400),
    ),
    server=st.builds(Server, any_text.text(min_size=1), st.integers(0, 65535)),
)


@given(deployments)
def test_toml_and_back(deployment: Deployment) -> None:
    text = deployment.to_toml()
    assert decode_toml(text.encode(), Deployment, origin="") == deployment


def test_a_file_needs_no_more_than_the_model(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text('model = "yolo11n"\n')
    assert Deployment.read(tmp_path / "d.toml") == Deployment("yolo11n")


def test_a_path_of_a_model_starts_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of other files do; what is not there is a name, or starts at the working folder."""
    app, here = tmp_path / "app", tmp_path / "here"
    for folder in (app / "models" / "kept", here / "models", app / "digits", app / "made"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    (app / "made" / "manifest.json").touch()
    for file in (app / "tiny.onnx", here / "tiny.onnx", here / "models" / "other.onnx"):
        file.touch()

    def read(model: str) -> str:
        (app / "d.toml").write_text(f'model = "{model}"\n')
        return Deployment.read(Path("../app/d.toml")).model

    folder = Path("../app").absolute()
    assert read("tiny.onnx") == str(folder / "tiny.onnx")  # not that of the working folder
    assert read("models/kept") == str(folder / "models" / "kept")
    assert read("made") == str(folder / "made")
    assert read("./digits") == str(folder / "digits")
    assert read("digits") == "digits"  # a folder of images: it may be a name in the store
    assert read("models/other.onnx") == "models/other.onnx"
    assert read(str(here / "tiny.onnx")) == str(here / "tiny.onnx")


def test_defaults_are_those_that_the_reference_shows() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "deployment.md"
    text = page.read_text().split("```toml\n")[1].split("```")[0]
    shown = decode_toml(text.encode(), Deployment, origin=page.name)
    # Its lanes are an example: they are chosen from the cores where the file says nothing.
    # So are the thresholds, which are the model's own where the file says nothing.
    shown = msgspec.structs.replace(shown, layout=CoreLayout(wide=shown.layout.wide))
    own = DetectionDefaults(Thresholds().confidence, Thresholds().iou)
    assert shown == Deployment("yolo11n", detection=own)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[layout]\nthread = 2", "unknown key 'layout.thread'", "threads"),
        ("[detection]\nconfidance = 0.5", "unknown key 'detection.confidance'", "confidence"),
        ("[limits]\ndeadline = 3", "unknown key 'limits.deadline'", "deadline_s"),
        ("[server]\nprot = 3000", "unknown key 'server.prot'", "port"),
        ("presicion = 'f32'", "unknown key 'presicion'", "precision"),
    ],
)
def test_a_typo_is_an_error_with_the_nearest_key(
    tmp_path: Path, text: str, said: str, hint: str
) -> None:
    (tmp_path / "d.toml").write_text(f'model = "m"\n{text}\n')
    with pytest.raises(InvalidConfig, match=said) as refusal:
        Deployment.read(tmp_path / "d.toml")
    assert refusal.value.hint == f"did you mean {hint!r}?"


@pytest.mark.parametrize(
    "text",
    [
        "precision = 'int8'",
        "[layout]\nworkers = 0",
        "[layout]\nthreads = -1",
        "[layout]\nthreads = 1.5",
        "[layout]\nwide = 'yes'",
        "[detection]\nconfidence = 1.5",
        "[detection]\niou = -0.1",
        "[detection]\nconfidence = nan",
        "[detection]\nmax_detections = 0",
        "[detection]\nmax_detections = 30001",
        "[limits]\nqueue = 0",
        "[limits]\ndeadline_s = 0",
        "[limits]\nbody_bytes = '16 MB'",
        "[server]\nport = 70000",
        "model = 3",
    ],
)
def test_values_out_of_range_or_of_another_type(text: str) -> None:
    prefix = "" if text.startswith("model") else "model = 'm'\n"
    with pytest.raises(InvalidConfig):
        decode_toml((prefix + text).encode(), Deployment, origin="d.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deadline_s = inf", "limits.deadline_s must be a number <= 86400.0"),
        ("deadline_s = nan", "limits.deadline_s must be a number"),
        ("deadline_s = 1e300", "limits.deadline_s must be a number <= 86400.0"),
        ("deadline_s = 1e-9", "limits.deadline_s must be a number >= 0.001"),
        ("drain_s = 1000000", "limits.drain_s must be a whole number <= 86400"),
        ("drain_s = inf", "limits.drain_s must be a whole number, not inf"),
        ("queue = 1000000000000", "limits.queue must be a whole number <= 100000"),
        ("body_bytes = 3000000000", "limits.body_bytes must be a whole number <= 2147483648"),
        ("image_pixels = 10000000000", "limits.image_pixels must be a whole number <= 1073741824"),
    ],
)
def test_a_limit_that_limits_nothing_is_a_typing_error(text: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        decode_toml(f"model = 'm'\n[limits]\n{text}\n".encode(), Deployment, origin="d.toml")
    assert said in refusal.value.message


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (
            "[limits]\ndrain_s = 5\n[server]\ndrain_notice_s = 5.5",
            "server.drain_notice_s is 5.5, and limits.drain_s, which bounds it, is 5",
            "raise limits.drain_s, or lower server.drain_notice_s",
        ),
        (
            "[limits]\ndeadline_s = 61",
            "limits.deadline_s is 61, and limits.longest_deadline_s, which bounds it, is 60",
            "raise limits.longest_deadline_s, or lower limits.deadline_s",
        ),
    ],
)
def test_a_part_of_a_time_is_no_longer_than_the_whole(
    tmp_path: Path, text: str, said: str, hint: str
) -> None:
    file = tmp_path / "d.toml"
    file.write_text(f"model = 'm'\n{text}\n")
    with pytest.raises(InvalidConfig) as refusal:
        Deployment.read(file)
    assert refusal.value.message == f"{file}: {said}"
    assert refusal.value.hint == hint
    file.write_text("model = 'm'\n[limits]\ndeadline_s = 60\ndrain_s = 1")
    Deployment.read(file)


def test_deployments_do_not_change() -> None:
    fields: dict[Any, str] = {
        Deployment("m"): "model", CoreLayout(): "wide", Limits(): "queue", Thresholds(): "iou"
    }  # fmt: skip
    for struct, field in fields.items():
        with pytest.raises(AttributeError):
            setattr(struct, field, 1)
    assert msgspec.structs.replace(Deployment("m"), model="n").model == "n"
