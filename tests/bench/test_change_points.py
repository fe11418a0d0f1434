from __future__ import annotations

import numpy as np
import pytest

from seatrial.bench.change_points import MOST_POINTS, SHORTEST, _best_cut, change_points

# Volume of the Nile at Aswan, 1871 to 1970 (Cobb, Biometrika 65, 1978): the dam of 1899.
NILE_TEXT = (
    "1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 "
    "1140 1100 1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 "
    "1050 969 831 726 456 824 702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 "
    "759 781 865 845 944 984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890 744 "
    "749 838 1050 918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740"
)
NILE = [int(word) for word in NILE_TEXT.split()]


def series(seed, *levels, noise=0.03):
    """A noisy series: (level, number of values) of each stretch."""
    draw = np.random.default_rng(seed)
    parts = [level * np.exp(draw.normal(0, noise, count)) for level, count in levels]
    return np.concatenate(parts).tolist()


def test_the_change_of_the_nile_is_found():
    (change,) = change_points(NILE)
    assert 1871 + change.index == 1899
    assert (change.before, change.after) == (
        pytest.approx(1130, abs=15),
        pytest.approx(843, abs=15),
    )
    assert change.ratio == pytest.approx(change.after / change.before)
    assert change.chance <= 0.01


def test_the_statistic_is_that_of_the_paper():
    """Matteson and James, equation (5), by sums over all pairs."""
    values = np.log(series(1, (20.0, 9), (24.0, 8)))
    apart = np.abs(values[:, None] - values)

    def energy(cut):
        n, m = cut, len(values) - cut
        left, right = apart[:cut, :cut], apart[cut:, cut:]
        between = 2 * apart[:cut, cut:].mean()
        within = left.sum() / (n * (n - 1)) + right.sum() / (m * (m - 1))
        return n * m / (n + m) * (between - within)

    sizes = {cut: energy(cut) for cut in range(SHORTEST, len(values) - SHORTEST + 1)}
    best = max(sizes, key=sizes.get)
    assert _best_cut(apart, SHORTEST) == (pytest.approx(sizes[best]), best)


def test_several_changes_are_found_in_their_order():
    found = change_points(series(0, (20.0, 20), (23.0, 20), (20.0, 20)))
    assert [change.index for change in found] == [20, 40]
    assert [change.ratio > 1 for change in found] == [True, False]
    assert found[0].after == found[1].before


def test_a_series_without_a_change_has_one_in_a_hundredth_of_all():
    false = sum(bool(change_points(series(n, (20.0, 40)), seed=n)) for n in range(100))
    assert false <= 3


def test_a_change_of_less_than_2_percent_is_not_told():
    assert change_points(series(1, (20.0, 30), (20.3, 30), noise=0.001)) == []
    assert len(change_points(series(1, (20.0, 30), (20.5, 30), noise=0.001))) == 1


def test_a_stretch_without_a_change_ends_no_search_of_the_others():
    """The largest statistic is that of a long drift below 2 %; the change of 5 % is found too."""
    values = series(2, (20.0, 60), (20.35, 60), (40.0, 10), (42.0, 10), noise=0.001)
    assert [change.index for change in change_points(values)] == [120, 130]


def test_a_change_of_five_per_cent_is_found_where_the_noise_is_three():
    found = [change_points(series(n, (20.0, 30), (21.0, 30)), seed=n) for n in range(40)]
    assert sum(any(abs(change.index - 30) <= 3 for change in one) for one in found) >= 36


def test_one_wild_value_is_no_change():
    values = series(5, (20.0, 30))
    values[14] *= 3
    assert change_points(values) == []


def test_few_or_equal_values_have_no_change():
    assert change_points([]) == []
    assert change_points([20.0]) == []
    assert change_points([20.0, 20.0, 20.0, 40.0, 40.0]) == []
    assert change_points([20.0] * 30) == []


def test_values_of_one_size_or_another_change_alike():
    values = series(3, (20.0, 20), (23.0, 20))
    small = change_points([value / 1e4 for value in values])
    assert [change.index for change in small] == [20]


def test_a_stretch_has_as_many_values_as_is_asked_for():
    values = series(3, (20.0, 5), (30.0, 30))
    assert [change.index for change in change_points(values)] == [5]
    assert all(change.index >= 8 for change in change_points(values, shortest=8))


def test_a_long_series_is_read_from_its_end():
    values = series(1, (20.0, MOST_POINTS + 50), (23.0, 100))
    (change,) = change_points(values)
    assert abs(change.index - (MOST_POINTS + 50)) <= 1
