from __future__ import annotations

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


def test_a_stage_stands_before_its_time():
    assert numbers.named_milliseconds("infer", 21.5) == "infer 21.5 ms"


def test_what_is_missing_is_a_dash():
    assert numbers.optional(None, numbers.cores) == numbers.MISSING
    assert numbers.optional(0.0, numbers.cores) == "0.00"
