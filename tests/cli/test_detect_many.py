"""``seatrial detect`` on several images, folders and videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Artifact
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.detect import detect
from seatrial.errors import InvalidInput
from seatrial.video.annotated import video_writer
from seatrial.video.sources import video_frames
from square_videos import write_video

Run = Callable[..., None]


def picture(path: Path, cells: int) -> None:
    """Grey, with red cells in the first row, two cells apart."""
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    for cell in range(cells):
        image.paste((255, 0, 0), (24 * cell, 0, 24 * cell + 8, 8))
    path.parent.mkdir(exist_ok=True, parents=True)
    image.save(path)


def coloured(cells: list[tuple[int, int, tuple[int, int, int]]]) -> Any:
    """(128, 128, 3) uint8 RGB: grey, with squares of 16 pixels at (left, top)."""
    image = np.full((128, 128, 3), 90, np.uint8)
    for left, top, colour in cells:
        image[top : top + 16, left : left + 16] = colour
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, cells in (("a.png", 1), ("sub/b.png", 2), ("sub/none.png", 0)):
        picture(tmp_path / "in" / name, cells)
    return tmp_path / "in"


@pytest.fixture
def run(tiny_artifact: Artifact) -> Run:
    def run(*words: Path, **given: Any) -> None:
        model = DeploymentOptions(model=str(tiny_artifact.path), instances=1, wide=False)
        detect(*map(str, words), options=model, **given)

    return run


def test_the_table_has_every_file_and_every_box(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(folder)
    told = capfd.readouterr()
    rows = [line.split()[1:-1:2][:2] for line in told.out.splitlines() if ".png" in line]
    assert rows == [
        ["a.png", "red"], ["sub/b.png", "red"], ["sub/b.png", "red"], ["sub/none.png", "-"],
    ]  # fmt: skip
    assert "3 objects in 3 images (" in told.err


def test_json_is_a_line_for_each_image_in_order(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(folder / "sub" / "b.png", folder / "a.png", json=True)
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(folder / "sub/b.png"), str(folder / "a.png")]
    assert [len(row["detections"]) for row in rows] == [2, 1]
    assert set(rows[0]) == {"file", "image", "detections", "timing_ms", "lane_threads"}


def test_a_folder_of_one_image_has_lines_too(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.png").unlink()
    (folder / "sub" / "none.png").unlink()
    run(folder, json=True)
    assert json.loads(capfd.readouterr().out)["file"] == str(folder / "sub" / "b.png")


def test_a_damaged_file_is_named_and_the_others_are_looked_at(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match="1 of 4 files could not be read") as refusal:
        run(folder, json=True)
    told = capfd.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["error"]["code"] for row in rows if "error" in row] == ["UnsupportedImage"]
    assert sum("detections" in row for row in rows) == 3
    assert f"left out: {folder / 'broken.jpg'}: the file is not in a known image" in told.err
    assert refusal.value.exit_code == 2


def test_drawings_keep_names_and_folders(run: Run, folder: Path, tmp_path: Path) -> None:
    run(folder, output=tmp_path / "out")
    found = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(p.relative_to(tmp_path / "out")) for p in found] == [
        "a.png", "sub/b.png", "sub/none.png",
    ]  # fmt: skip
    with Image.open(found[0]) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (64, 64))


def test_a_video_gets_lines_for_its_frames_and_its_boxes_drawn(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[(0, 0, 40, 250)], [], [(80, 40, 40, 250)]])
    run(clip, json=True, output=tmp_path / "drawn.mp4", confidence=0.0)
    told = capfd.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [(row["frame"], row["time_s"]) for row in rows] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    drawn = [*video_frames(tmp_path / "drawn.mp4")]
    assert [(frame.raw.width, frame.raw.height) for frame in drawn] == [(160, 96)] * 3
    assert [round(frame.time_s, 3) for frame in drawn] == [0.0, 0.1, 0.2]
    assert f"wrote {tmp_path / 'drawn.mp4'}" in told.err


def test_a_video_is_told_in_a_row_for_each_class(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[], []])
    run(clip, confidence=1.0)
    (row,) = (line.split() for line in capfd.readouterr().out.splitlines() if "clip" in line)
    assert row[1:-1:2] == ["clip.mp4", "-", "-", "-", "-"]


def test_a_video_that_is_cut_off_is_named(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    with video_writer(tmp_path / "whole.mp4", hint="") as writer:
        for number, image in enumerate(noise):
            writer.add(image, number / 10, 10.0)
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="the file could not be read to its end") as refusal:
        run(tmp_path / "cut.mp4")
    assert "of 40 frames could be read" in capfd.readouterr().err
    assert "others" not in refusal.value.hint


def test_a_file_alone_that_cannot_be_read_is_told_as_one(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"^the file could not be read$") as refusal:
        run(tmp_path / "empty.mp4")
    told = capfd.readouterr().err
    assert "empty.mp4 is empty (0 bytes)" in told
    assert "images" not in told
    assert "0 objects" not in told
    assert refusal.value.hint == "the reason is above"


def test_where_no_file_can_be_read_there_are_no_others(run: Run, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"2 of 2 files could not be read$") as told:
        run(tmp_path / "a.jpg", tmp_path / "b.mp4")
    assert told.value.hint == "they are named above"


def test_a_video_and_an_image_are_counted_as_what_they_are(
    run: Run, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[]])
    run(clip, folder / "a.png", confidence=0.9)
    assert "1 box in 1 image and 1 frame (" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["one.jpg", "one.PNG", "one.mp4", "one.avi"])
def test_several_inputs_do_not_go_into_one_file(
    run: Run, folder: Path, tmp_path: Path, name: str
) -> None:
    for words in ([folder / "a.png", folder / "sub" / "b.png"], [folder]):
        with pytest.raises(InvalidInput, match=f"{name} is the name of one file") as refusal:
            run(*words, output=tmp_path / name)
        assert f"name a folder, such as {tmp_path / 'one'}" in refusal.value.hint
    assert not (tmp_path / name).exists()


def test_one_of_so_many_frames_is_looked_at_and_written(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[] for _ in range(7)])
    run(clip, every=3, output=tmp_path / "drawn.mp4", json=True)
    told = capfd.readouterr()
    assert [json.loads(line)["frame"] for line in told.out.splitlines()] == [0, 3, 6]
    drawn = [*video_frames(tmp_path / "drawn.mp4")]
    assert [round(frame.time_s, 3) for frame in drawn] == [0.0, 0.3, 0.6]
    assert drawn[0].rate_hz == pytest.approx(10 / 3, rel=0.05)
    assert "0 boxes in 3 frames (" in told.err


def test_tracks_are_in_json_in_the_table_and_in_the_drawing(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed: seatrial[video]")
    red, blue = (255, 0, 0), (0, 0, 255)
    frames = [coloured([(16, 16, red), (96, 16, red), (16, 96, blue)])] * 4
    with video_writer(tmp_path / "clip.mp4", hint="") as writer:
        for number, image in enumerate(frames):
            writer.add(image, number / 10, 10.0)
    written: list[str] = []
    put = cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda *a, **k: (written.append(a[1]), put(*a, **k))[1])
    run(tmp_path / "clip.mp4", track=True, json=True, output=tmp_path / "drawn.mp4")
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    ids = {(box["label"], box["track_id"]) for row in rows for box in row["detections"]}
    assert sorted(label for label, _ in ids) == ["blue", "red", "red"]
    assert {track for _, track in ids} == {1, 2, 3}
    assert {f"{label} #{track}" for label, track in ids} == {t.rpartition(" ")[0] for t in written}
    run(tmp_path / "clip.mp4", track=True)
    told = capfd.readouterr().out
    cells = [line.split()[1:-1:2] for line in told.splitlines() if "clip" in line]
    assert [row[1:3] for row in cells] == [["red", "2"], ["blue", "1"]]
    run(tmp_path / "clip.mp4")
    assert "tracks" not in capfd.readouterr().out


def test_images_have_no_tracks(run: Run, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="--track follows objects through videos"):
        run(folder, track=True)


def test_a_file_that_is_not_there_is_not_said_to_have_an_end(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "there.png")
    gone = tmp_path / "ther.png"
    with pytest.raises(InvalidInput, match=r"^1 of 2 files could not be read$"):
        run(tmp_path / "there.png", gone)
    (told,) = (line for line in capfd.readouterr().err.splitlines() if "left out" in line)
    assert told.startswith(f"left out: {gone} cannot be read: No such file or directory")
    assert told.endswith(f"(did you mean {tmp_path / 'there.png'}?)")
