from __future__ import annotations

import re
from pathlib import Path

import pytest

from seatrial.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.1234, "0.123"),
        (0.9994, "0.999"),
        (0.9996, "1.00"),
        (9.994, "9.99"),
        (9.995, "10.0"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234.5, "1234"),
        (-0.5, "-0.500"),
        (-12.34, "-12.3"),
        (-200.4, "-200"),
    ],
)
def test_three_digits_and_never_fewer_than_the_whole_number(value, text):
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (0.001, "0.1%"),
        (0.0994, "9.9%"),
        (0.0995, "10%"),
        (0.931, "93%"),
        (1.0, "100%"),
        (-0.02, "-2.0%"),
        (-0.2, "-20%"),
    ],
)
def test_a_share_has_a_decimal_where_it_is_small(share, text):
    assert numbers.percent(share) == text


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("milliseconds", 21.5, "21.5 ms"),
        ("seconds", 25.0, "25.0 s"),
        ("per_second", 47.61, "47.6/s"),
        ("cores", 1.868, "1.87"),
        ("mebibytes", 212 * 2**20, "212 MiB"),
        ("kibibytes", 158 * 2**10, "158 KiB"),
        ("megapixels", 0.3072, "0.307 megapixels"),
        ("core_milliseconds", 0.0412, "41.2 ms"),
        ("times", 1.93, "1.9x"),
        ("sessions", 1, "1 session"),
        ("sessions", 8, "8 sessions"),
        ("files", 1, "1 image file"),
        ("files", 3, "3 image files"),
    ],
)
def test_a_number_carries_its_unit(form, value, text):
    assert getattr(numbers, form)(value) == text


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (149, "2 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (125 * 60, "2 h 05 min"),
    ],
)
def test_an_estimate_has_the_unit_that_a_person_would_take(value_s, text):
    assert numbers.duration(value_s) == text


def test_a_stage_stands_before_its_time():
    assert numbers.named_milliseconds("infer", 21.5) == "infer 21.5 ms"


def test_what_is_missing_is_a_dash():
    assert numbers.optional(None, numbers.cores) == numbers.MISSING
    assert numbers.optional(0.0, numbers.cores) == "0.00"


def test_one_is_not_a_plural():
    assert [numbers.counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert numbers.counted(1, "class", "classes") == "1 class"
    assert numbers.counted(1200, "class", "classes") == "1,200 classes"


# "{count} images" in a message of a command reads "1 images" for one.
BY_HAND = re.compile(
    r"\{(?![A-Z_]+\})[^{}]*\} (images|objects|classes|folders|files|errors|warnings|tracks|lanes"
    r"|crowds|frames|imports|artifacts|weights|models)\b(?!/)"
)


@pytest.mark.parametrize("room", ["cli", "models"])
def test_commands_count_with_the_helper(room):
    package = Path(numbers.__file__).parents[1]
    allowed = "images at a time"  # a batch is two images or more
    found = {
        f"{file.name}: {match[0]}"
        for file in sorted((package / room).rglob("*.py"))
        for line in file.read_text().splitlines()
        if allowed not in line and (match := BY_HAND.search(line))
    }
    assert not found
