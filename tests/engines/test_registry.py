from __future__ import annotations

import sys
import types
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import ENGINES, engine_class, open_engine, resolve_layout
from seatrial.errors import DeviceUnavailable, InvalidArtifact, InvalidConfig


def plan(cores: int, **layout: object) -> tuple[int, int, int, int]:
    """Workers, instances, threads, wide threads."""
    workers, config = resolve_layout(
        CoreLayout(**layout),  # type: ignore[arg-type]
        device="cpu",
        precision="f32",
        cores=cores,
    )
    return workers, config.instances, config.threads, config.wide_threads


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, (1, 2, 1, 0)),  # a wide lane of one thread would be a second copy for nothing
        (2, (1, 3, 1, 2)),
        (3, (1, 4, 1, 3)),
        (4, (1, 5, 1, 4)),
        (8, (1, 9, 1, 8)),
        (9, (2, 5, 1, 4)),
        (16, (2, 9, 1, 8)),
        (64, (8, 9, 1, 8)),
    ],
)
def test_layout_by_default(cores: int, expected: tuple[int, ...]) -> None:
    assert plan(cores) == expected


@pytest.mark.parametrize(
    ("cores", "layout", "expected"),
    [
        (8, {"wide": False}, (1, 9, 1, 0)),
        (8, {"instances": 2}, (1, 2, 4, 8)),
        (8, {"instances": 3}, (1, 3, 2, 8)),
        (8, {"threads": 2}, (1, 4, 2, 8)),
        (8, {"threads": 8}, (1, 1, 8, 0)),
        (8, {"workers": 4}, (4, 3, 1, 2)),
        (8, {"workers": 8}, (8, 2, 1, 0)),
        (8, {"workers": 2, "instances": 2, "threads": 2}, (2, 2, 2, 4)),
        (16, {"instances": 1}, (2, 1, 8, 0)),
        (2, {"instances": 4}, (1, 4, 1, 2)),
        (2, {"workers": 3}, (3, 2, 1, 0)),  # more than there are: what was asked for
        (1, {"threads": 4}, (1, 1, 4, 0)),
    ],
)
def test_layout_with_values_given(
    cores: int, layout: dict[str, object], expected: tuple[int, ...]
) -> None:
    assert plan(cores, **layout) == expected


@given(st.integers(1, 256), st.booleans())
def test_by_default_a_process_has_one_lane_to_spare(cores: int, wide: bool) -> None:
    workers, instances, threads, wide_threads = plan(cores, wide=wide)
    assert threads == 1
    assert workers * (instances - 1) <= cores
    assert workers * wide_threads <= cores
    # And few cores are left over: fewer than there are processes.
    assert cores - workers * (instances - 1) < workers


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 16))
def test_what_is_left_open_fits_what_is_given(cores: int, instances: int, threads: int) -> None:
    workers, _, chosen, _ = plan(cores, instances=instances)
    assert chosen == 1 or workers * instances * chosen <= cores
    workers, chosen, _, _ = plan(cores, threads=threads)
    spare = 1 if threads == 1 else 0
    assert chosen == 1 or workers * (chosen - spare) * threads <= cores


def test_device_and_precision_are_passed_on() -> None:
    _, config = resolve_layout(CoreLayout(), device="cuda", precision="bf16", cores=2)
    assert (config.device, config.precision) == ("cuda", "bf16")


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="unknown engine 'openvin'") as refusal:
        engine_class("openvin")
    assert all(name in refusal.value.hint for name in ENGINES)


def test_a_device_in_capitals_has_the_right_spelling_in_the_hint(tiny_artifact: Artifact) -> None:
    config = EngineConfig(device="CPU")
    with pytest.raises(DeviceUnavailable, match="there is no device 'CPU'") as refusal:
        open_engine(tiny_artifact, "openvino", config)
    assert refusal.value.hint == "write cpu"


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("0", "CUDA_VISIBLE_DEVICES=0 chooses"),
        ("cuda:1", "CUDA_VISIBLE_DEVICES=1 chooses"),
        ("0,1", "CUDA_VISIBLE_DEVICES=0,1 chooses"),
        ("GPU", "use --device cuda, with --engine onnxruntime or torch"),
        ("mps", "use --device cpu or cuda"),
    ],
)
def test_a_device_in_the_words_of_another_tool_has_ours_in_the_hint(
    tiny_artifact: Artifact, device: str, hint: str
) -> None:
    with pytest.raises(DeviceUnavailable, match=f"there is no device '{device}'") as refusal:
        open_engine(tiny_artifact, "openvino", EngineConfig(device=device))
    assert hint in refusal.value.hint


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_in_the_table_is_there(name: str) -> None:
    factory = engine_class(name)
    assert factory.name == name  # type: ignore[attr-defined]
    assert factory.formats


def test_the_best_format_that_the_artifact_has_is_opened(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[Path] = []

    class Recorder:
        formats = ("first", "second")

        def __init__(self, model: Path, manifest: object, config: EngineConfig) -> None:
            opened.append(model)

    module = types.ModuleType("a_recorder")
    module.Recorder = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_recorder", module)
    monkeypatch.setitem(ENGINES, "recorder", "a_recorder:Recorder")

    def artifact(**formats: str) -> Artifact:
        manifest = msgspec.structs.replace(tiny_artifact.manifest, formats=formats)
        return Artifact(tmp_path, manifest, "")

    open_engine(artifact(second="b", first="a"), "recorder", EngineConfig())
    open_engine(artifact(second="b"), "recorder", EngineConfig())
    assert opened == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InvalidArtifact, match=r"engine reads \(first, second\); it has: third"):
        open_engine(artifact(third="c"), "recorder", EngineConfig())
    for have, hint in (
        ({"torch": "c"}, "use --engine torch or torch-compile"),
        ({"transformers": "c"}, "make one: seatrial export tiny --to second --images FOLDER"),
    ):
        with pytest.raises(InvalidArtifact) as refusal:
            open_engine(artifact(**have), "recorder", EngineConfig())
        assert refusal.value.hint == hint


def test_the_hint_on_a_missing_graph_offers_what_the_device_can_run(
    tiny_artifact: Artifact,
) -> None:
    for device, offered in (
        ("cpu", "use --engine openvino or onnxruntime"),
        ("cuda", "use --engine openvino or onnxruntime or onnxruntime-tensorrt"),
    ):
        with pytest.raises(InvalidArtifact, match="no graph that the torch engine reads") as caught:
            open_engine(tiny_artifact, "torch", EngineConfig(device=device))
        assert caught.value.hint == offered
