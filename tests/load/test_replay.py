from __future__ import annotations

import json
import time

import pytest

from seatrial.errors import InvalidDataset
from seatrial.load.images import EncodedImage
from seatrial.load.replay import logged, read_log
from seatrial.load.schedule import to_ns

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


@pytest.mark.parametrize(
    ("times", "speed", "window_s"),
    [
        ("0.10 0.35 1.80", 2.0, 0.85 * 3 / 2),
        ("0 3600", 1.0, 3601.0),
        ("5", 1.0, 1.0),
        ("5 5 5", 1.0, 1.0),
        # The last one would not be before an end that is a microsecond later.
        ("1764576000000000000 1764577000000000000 1764578000000000000", 1.0, 2001.0),
    ],
)
def test_each_request_is_due_in_the_window_and_the_rate_is_that_of_the_gaps(
    tmp_path, times, speed, window_s
):
    log = read_log(write(tmp_path, "timestamp\n" + "\n".join(times.split())))
    law = logged(log, IMAGES, speed=speed)
    assert law.window_s == pytest.approx(window_s, rel=1e-9)
    assert len(law.due_s(0, law.window_s)) == len(times.split())
    assert to_ns(law.due_s(0, law.window_s))[-1] < to_ns(law.window_s)


def test_a_file_that_is_not_there_is_told_as_elsewhere(tmp_path):
    write(tmp_path, "ts\n1\n", name="requests.csv")
    with pytest.raises(InvalidDataset, match="cannot be read: No such file or directory") as caught:
        read_log(tmp_path / "request.csv")
    assert "Errno" not in caught.value.message
    assert caught.value.hint == f"did you mean {tmp_path / 'requests.csv'}?"


def test_dates_are_times_too_and_headings_have_any_case(tmp_path):
    path = write(tmp_path, "Time, Image\n2026-11-30T10:00:00Z, a.jpg\n2026-11-30T11:00:01+01:00,\n")
    log = read_log(path)
    assert log.due_s.tolist() == [0.0, 1.0]
    assert log.images == ("a.jpg", "")


@pytest.mark.parametrize(
    ("column", "times"),
    [
        ("timestamp", ("1764576000100", "1764576000350", "1764576001800")),
        ("timestamp", ("1764576000100000", "1764576000350000", "1764576001800000")),
        ("timestamp", ("1764576000100000000", "1764576000350000000", "1764576001800000000")),
        ("timestamp_ms", ("100", "350", "1800")),
        ("time_us", ("100000", "350000", "1800000")),
        ("ts_ns", ("100000000", "350000000", "1800000000")),
        ("ts_s", ("0.1", "0.35", "1.8")),
    ],
    ids=["epoch-ms", "epoch-us", "epoch-ns", "ms", "us", "ns", "s"],
)
def test_the_unit_of_times_is_that_of_the_column_or_of_numbers_since_1970(tmp_path, column, times):
    log = read_log(write(tmp_path, "\n".join([column, *times])))
    assert log.due_s.tolist() == pytest.approx([0.0, 0.25, 1.7], abs=1e-5)


def test_14_digits_are_a_date(tmp_path):
    log = read_log(write(tmp_path, "time\n20261201100000\n20261201100059\n20261201100101\n"))
    assert log.due_s.tolist() == [0.0, 59.0, 61.0]


def test_dates_without_a_zone_are_alike_on_every_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        text = "time\n2026-03-29T01:59:59\n2026-03-29T02:00:00\n2026-03-29T03:00:00\n"
        assert read_log(write(tmp_path, text)).due_s.tolist() == [0.0, 1.0, 3601.0]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("apart", [";", "\t"], ids=["semicolon", "tab"])
def test_columns_may_be_apart_by_other_marks(tmp_path, apart):
    rows = (("\ufeff# made by x",), ("",), ("image", "ts"), ("c.jpg", "4"), ("a.jpg", "1"))
    log = read_log(write(tmp_path, "\r\n".join(apart.join(row) for row in rows)))
    assert (log.due_s.tolist(), log.images) == ([0.0, 3.0], ("a.jpg", "c.jpg"))


def test_json_lines_are_known_by_their_first_one_and_other_texts_are_named(tmp_path):
    assert read_log(write(tmp_path, '{"ts": 1}\n', name="log.txt")).due_s.tolist() == [0.0]
    path = tmp_path / "utf-16.csv"
    path.write_text("timestamp\n1\n", encoding="utf-16")
    with pytest.raises(InvalidDataset, match="is not UTF-8 text"):
        read_log(path)


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
        ("when,a\n1,2\n", "line 1 of .* names no column timestamp: when, a"),
        ("# made by x\n\nwhen\n", "line 3 of .* names no column"),
        ("timestamp,image\n,a.jpg\n", "line 2 of .* has no timestamp"),
        ("timestamp\n1,5\n", "line 2 of .* has 2 cells, and the header 1"),
        ('timestamp,agent\n1,"Mozilla\n2,x\n', "cannot be read: unexpected end of data"),
        ("timestamp\n1_000\n", "line 2 of .* has the timestamp '1_000'"),
        ("ts_ms\n1e999\n", "has the ts_ms '1e999'"),
        ("timestamp\n20261301000000\n", "has the timestamp '20261301000000'"),
        ("timestamp\n1764576000.1\n\n17645\n1764576001\n", "days between line 4 and line 2"),
        ("timestamp\n1\nsoon\n", "line 3 of .* has the timestamp 'soon'"),
        ("timestamp\nnan\n", "has the timestamp 'nan'"),
        ("timestamp,size\n1,-5\n", "has the size '-5'"),
        ("timestamp,size\n1,big\n", "has the size 'big'"),
    ],
    ids=[
        "empty", "header", "no-column", "comment", "no-time", "comma", "quote", "underscore",
        "infinite", "month-13", "cut", "word", "nan", "negative", "no-size",
    ],
)  # fmt: skip
def test_what_is_no_log_is_an_error_with_its_line(tmp_path, text, message):
    with pytest.raises(InvalidDataset, match=message):
        read_log(write(tmp_path, text))


def test_what_is_no_json_is_an_error(tmp_path):
    for text in ("{", '{"timestamp": ' + 5001 * "1" + "}", 200_000 * "["):
        with pytest.raises(InvalidDataset, match=r"line 1 of .* is not JSON"):
            read_log(write(tmp_path, text, name="log.jsonl"))
    with pytest.raises(InvalidDataset, match="has the timestamp '1000"):
        read_log(write(tmp_path, '{"timestamp": 1' + 400 * "0" + "}", name="log.jsonl"))
    with pytest.raises(InvalidDataset, match=r"line 1 of .* must be an object"):
        read_log(write(tmp_path, "[1]", name="log.jsonl"))
    with pytest.raises(InvalidDataset, match="cannot be read"):
        read_log(tmp_path / "none.csv")


def test_an_image_that_is_not_there_is_an_error(tmp_path):
    log = read_log(write(tmp_path, "time,image\n0,other.jpg\n"))
    with pytest.raises(InvalidDataset, match=r"'other\.jpg', which is not among the 3") as caught:
        logged(log, IMAGES)
    assert "--image-limit" in caught.value.hint
