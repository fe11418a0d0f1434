"""A detector as programs use it: called, streamed, shared by threads."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import seatrial
from seatrial.api.loading import LoadedDetector, LoadOptions, deployment_of
from seatrial.artifact import Artifact
from seatrial.errors import (
    DeviceUnavailable,
    InvalidArtifact,
    InvalidConfig,
    InvalidImage,
    InvalidInput,
)
from square_videos import SIZE, write_video


@pytest.fixture(scope="module")
def detector(tiny_artifact: Artifact) -> Iterator[LoadedDetector]:
    with seatrial.load(tiny_artifact.path) as loaded:
        yield loaded


def test_a_photo_is_called_on(
    detector: LoadedDetector, photo: bytes, box_of: Callable[..., list[float]]
) -> None:
    found = detector(photo)
    assert found.labels == ["red"]
    assert found.class_id.tolist() == [0]
    assert found.xyxy[0].tolist() == pytest.approx(box_of(2, 3), abs=0.5)
    assert 0.9 < found.confidence[0] <= 1
    assert found.size_hw == (128, 128)
    assert repr(detector) == "<tiny: openvino on cpu, f32>"


def test_every_form_of_an_image_has_the_same_detections(
    detector: LoadedDetector, picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    image = picture({(2, 3): "red", (5, 5): "blue"})
    path = tmp_path / "photo.png"
    image.save(path)
    array = np.asarray(image)
    wanted = detector(path)
    assert len(wanted) == 2
    for form in (str(path), path.read_bytes(), image, array):
        found = detector(form)
        assert np.array_equal(found.xyxy, wanted.xyxy)
        assert np.array_equal(found.confidence, wanted.confidence)
        assert found.labels == wanted.labels


def test_a_list_gives_a_list_in_its_order(
    detector: LoadedDetector, picture: Callable[..., Image.Image]
) -> None:
    colours = ["red", "green", "blue"] * 4
    images = [picture({(2, 3): colour}) for colour in colours]
    assert [found.labels for found in detector(images)] == [[colour] for colour in colours]
    assert [found.labels for found in detector(tuple(images[:2]))] == [["red"], ["green"]]
    assert detector([]) == []


def test_thresholds_are_options(
    detector: LoadedDetector, picture: Callable[..., Image.Image]
) -> None:
    image = picture({(2, 3): "red", (5, 5): "blue"})
    best = float(detector(image).confidence[0])
    assert len(detector(image, confidence=min(1.0, best + 1e-3))) < 2
    assert len(detector(image, max_detections=1)) == 1
    assert len(detector(image, iou=0.1)) == 2
    with pytest.raises(InvalidConfig, match="confidence must be"):
        detector(image, confidence=1.5)


def test_thresholds_may_be_numpy_numbers(detector: LoadedDetector, photo: bytes) -> None:
    found = detector(
        photo,
        confidence=np.float32(0.5),  # type: ignore[arg-type]
        iou=np.float64(0.5),
        max_detections=np.int64(1),  # type: ignore[arg-type]
    )
    assert found.labels == ["red"]


def test_a_file_that_is_no_image_is_an_error_of_the_tree(
    detector: LoadedDetector, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput):
        detector(tmp_path / "none.jpg")
    with pytest.raises(seatrial.SeatrialError):
        detector(b"text")


def test_an_image_of_a_list_that_is_refused_is_named(
    detector: LoadedDetector, photo: bytes
) -> None:
    with pytest.raises(InvalidImage, match=r"^image\[2\]: an array must be"):
        detector([photo, photo, np.zeros((4, 4), np.uint8)])


def test_threads_share_one_detector(
    detector: LoadedDetector, picture: Callable[..., Image.Image], time_limit: None
) -> None:
    names = ("red", "green", "blue")
    images = {
        (name, row): np.asarray(picture({(row, row): name})) for name in names for row in range(8)
    }
    wanted = {key: detector(image) for key, image in images.items()}
    start = threading.Barrier(8)

    def work(seed: int) -> list[tuple[Any, Any]]:
        order = list(images)
        np.random.default_rng(seed).shuffle(order)  # type: ignore[arg-type]
        start.wait()
        return [(tuple(key), detector(images[tuple(key)])) for key in order]  # type: ignore[index]

    with ThreadPoolExecutor(8) as pool:
        rows = [row for rows in pool.map(work, range(8)) for row in rows]
    assert len(rows) == 8 * 24
    for (name, row), found in rows:
        expected = wanted[name, int(row)]
        assert found.labels == expected.labels
        assert np.array_equal(found.xyxy, expected.xyxy)


def test_a_stream_gives_frames_and_their_detections(
    detector: LoadedDetector, tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[(8 * n, 8, 16, 250)] for n in range(3)])
    seen = list(detector.stream(clip))
    assert len(seen) == 3
    for frame, found in seen:
        assert frame.shape == (SIZE[1], SIZE[0], 3)
        assert frame.dtype == np.uint8
        assert found.size_hw == (SIZE[1], SIZE[0])
        # A frame goes into the graph as it is given out.
        assert np.array_equal(found.xyxy, detector(frame).xyxy)
    with clip.open("rb") as file:
        assert len(list(detector.stream(file, confidence=0.9))) == 3


def test_a_wrong_threshold_of_a_stream_is_told_before_the_first_frame(
    detector: LoadedDetector, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig):
        detector.stream(tmp_path / "none.mp4", iou=2)
    with pytest.raises(InvalidInput, match=r"none\.mp4"):
        next(detector.stream(tmp_path / "none.mp4"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        next(detector.stream("a\0b.mp4"))


@pytest.mark.parametrize(
    "source", [b"a.mp4", 0, None, pytest.param(io.StringIO(), id="text")], ids=repr
)
def test_what_is_no_video_is_refused_at_the_call(detector: LoadedDetector, source: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a video") as refused:
        detector.stream(source)
    assert "path of a video or a file opened in binary mode" in refused.value.hint


def test_options_reach_the_engine(tiny_artifact: Artifact) -> None:
    with seatrial.load(str(tiny_artifact.path), instances=2, threads=1, wide=False) as loaded:
        engine = loaded.detector.engine
        assert len(engine.narrow) == 2
        assert engine.wide is None
    with seatrial.load(tiny_artifact.path, engine="onnxruntime", wide=False) as loaded:
        assert loaded.detector.engine.name == "onnxruntime"


def test_a_name_is_that_of_the_store(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, photo: bytes
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tiny_artifact.path.parents[1]))
    store = tiny_artifact.path.parent
    (store.parent / "artifacts").symlink_to(store)
    try:
        with seatrial.load("tiny", wide=False) as loaded:
            assert loaded(photo).labels == ["red"]
    finally:
        (store.parent / "artifacts").unlink()


def test_what_cannot_be_loaded_says_so(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    with pytest.raises(InvalidArtifact):
        seatrial.load("no-such-model")
    with pytest.raises(InvalidConfig, match="threads must be"):
        seatrial.load(tiny_artifact.path, threads=0)
    with pytest.raises(InvalidConfig, match="unknown engine"):
        seatrial.load(tiny_artifact.path, engine="openvin")
    with pytest.raises(DeviceUnavailable):
        seatrial.load(tiny_artifact.path, device="cuda")
    with pytest.raises(InvalidConfig, match=r"^precision must be f32, bf16 or f16, not 'fp16'$"):
        seatrial.load(tiny_artifact.path, precision="fp16")  # type: ignore[arg-type]
    for model, named in ((None, "NoneType is not a model"), ("", "name of the model is empty")):
        with pytest.raises(InvalidInput, match=named) as refusal:
            seatrial.load(model)  # type: ignore[arg-type]
        assert "models list" in refusal.value.hint


def test_options_by_name_are_those_of_load() -> None:
    parameters = list(inspect.signature(seatrial.load).parameters)
    assert parameters[1:] == list(LoadOptions.__annotations__)
    deployment = deployment_of("m", threads=3, precision="bf16", wide=False)
    assert (deployment.layout.threads, deployment.layout.workers) == (3, 1)
    assert (deployment.precision, deployment.layout.wide) == ("bf16", False)


@pytest.mark.parametrize(
    "before",
    ["", "import seatrial.load.run", "import seatrial.bench, seatrial.export", "seatrial.export"],
)
def test_functions_are_there_whatever_was_imported(before: str) -> None:
    code = (
        f"import seatrial; {before}\n"
        "for name in seatrial.__all__:\n"
        "    assert callable(getattr(seatrial, name)), name\n"
        "assert {*seatrial.__all__} <= {*dir(seatrial)}\n"
        "try:\n"
        "    seatrial.load('/no/such.onnx')\n"
        "except seatrial.SeatrialError as error:\n"
        "    print(type(error).__name__)\n"
        "import seatrial.load.run as run\n"
        "assert run.__name__ == seatrial.load.run.__name__ == 'seatrial.load.run'\n"
        "try:\n"
        "    seatrial.nothing\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "InvalidArtifact",
        "module 'seatrial' has no attribute 'nothing'",
    ], done.stderr


def test_a_closed_detector_refuses_to_be_called(tiny_artifact: Artifact, photo: bytes) -> None:
    with seatrial.load(str(tiny_artifact.path), engine="openvino") as detector:
        assert len(detector(photo)) == 1
    with pytest.raises(InvalidInput, match="is closed"):
        detector(photo)
    with pytest.raises(InvalidInput, match="is closed"):
        detector.stream("clip.mp4")
