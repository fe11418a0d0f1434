from __future__ import annotations

import json

import pytest

from seatrial.errors import InvalidDataset
from seatrial.load.images import EncodedImage
from seatrial.load.replay import logged, read_log

IMAGES = [
    EncodedImage(name, bytes(size), "image/jpeg", 8, 8)
    for name, size in (("a.jpg", 100), ("sub/b.jpg", 300), ("c.jpg", 200))
]


def write(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_log_begins_with_its_first_request_whatever_the_order_of_its_rows(tmp_path):
    path = write(tmp_path, "timestamp\n1700000002.5\n1700000001\n1700000004\n")
    log = read_log(path)
    assert log.due_s.tolist() == [0.0, 1.5, 3.0]
    law = logged(log, IMAGES)
    assert law.due_s(9, 3.0).tolist() == [0.0, 1.5]
    assert (law.length_s, law.words()) == (3.0, "replay of log.csv")


def test_time_passes_faster(tmp_path):
    log = read_log(write(tmp_path, "ts\n0\n10\n40\n"))
    law = logged(log, IMAGES, speed=20.0)
    assert law.due_s(0, 100.0).tolist() == [0.0, 0.5, 2.0]
    assert (law.length_s, law.words()) == (2.0, "replay of log.csv, 20 times as fast")


def test_dates_are_times_too_and_headings_have_any_case(tmp_path):
    path = write(tmp_path, "Time, Image\n2026-11-30T10:00:00Z, a.jpg\n2026-11-30T11:00:01+01:00,\n")
    log = read_log(path)
    assert log.due_s.tolist() == [0.0, 1.0]
    assert log.images == ("a.jpg", "")


def test_json_lines_are_read_like_csv(tmp_path):
    rows = [{"timestamp": 5, "size": 290}, {"timestamp": "7.5", "image": "c.jpg"}]
    path = write(tmp_path, "\n\n".join(map(json.dumps, rows)), name="log.jsonl")
    log = read_log(path)
    assert log.due_s.tolist() == [0.0, 2.5]
    assert logged(log, IMAGES).images == (1, 2)


def test_requests_send_the_image_of_their_name_or_the_nearest_in_size(tmp_path):
    rows = "0,sub/b.jpg,\n1,,240\n2,,260\n3,,1\n4,,99999\n"
    log = read_log(write(tmp_path, "time,image,bytes\n" + rows))
    assert logged(log, IMAGES).images == (1, 2, 1, 0, 1)


def test_requests_without_a_name_or_size_send_any_image(tmp_path):
    log = read_log(write(tmp_path, "time\n" + "\n".join(map(str, range(60)))))
    first, same, other = (logged(log, IMAGES, seed=seed).images for seed in (1, 1, 2))
    assert first == same != other
    assert set(first) == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no request"),
        ("timestamp\n", "has no request"),
        ("when\n1\n", "line 2 of .* has no timestamp"),
        ("timestamp\n1\nsoon\n", "line 3 of .* has the timestamp 'soon'"),
        ("timestamp\nnan\n", "has the timestamp 'nan'"),
        ("timestamp,size\n1,-5\n", "has the size '-5'"),
        ("timestamp,size\n1,big\n", "has the size 'big'"),
    ],
    ids=["empty", "header", "no-time", "word", "nan", "negative", "no-size"],
)
def test_what_is_no_log_is_an_error_with_its_line(tmp_path, text, message):
    with pytest.raises(InvalidDataset, match=message):
        read_log(write(tmp_path, text))


def test_what_is_no_json_is_an_error(tmp_path):
    with pytest.raises(InvalidDataset, match="cannot be read"):
        read_log(write(tmp_path, "{", name="log.jsonl"))
    with pytest.raises(InvalidDataset, match="line 1 must be an object"):
        read_log(write(tmp_path, "[1]", name="log.jsonl"))
    with pytest.raises(InvalidDataset, match="cannot be read"):
        read_log(tmp_path / "none.csv")


def test_an_image_that_is_not_there_is_an_error(tmp_path):
    log = read_log(write(tmp_path, "time,image\n0,other.jpg\n"))
    with pytest.raises(InvalidDataset, match=r"'other\.jpg', which is not among the 3") as caught:
        logged(log, IMAGES)
    assert "--image-limit" in caught.value.hint
