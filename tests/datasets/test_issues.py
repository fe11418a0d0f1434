"""Issues: their severity, and the strict reading."""

from __future__ import annotations

import pytest

from seatrial.datasets.issues import ISSUE_KINDS, LabelIssue, refuse
from seatrial.errors import InvalidDataset


def test_the_first_error_is_refused_with_its_place_and_remedy() -> None:
    with pytest.raises(InvalidDataset) as caught:
        refuse(LabelIssue("box-empty", "a.txt, line 3", "0 x 5 pixels"))
    assert caught.value.message == "a.txt, line 3: 0 x 5 pixels"
    assert ISSUE_KINDS["box-empty"].remedy in caught.value.hint
    assert "seatrial data check" in caught.value.hint


def test_a_warning_is_passed_over() -> None:
    refuse(LabelIssue("duplicate-box", "a.txt", "is there twice"))


@pytest.mark.parametrize("kind", ISSUE_KINDS)
def test_every_kind_has_a_title_and_a_remedy(kind: str) -> None:
    found = ISSUE_KINDS[kind]
    assert found.title
    assert found.remedy
    assert LabelIssue(kind, "", "").severity == found.severity


def test_what_spoils_training_or_figures_is_an_error() -> None:
    warnings = {name for name, kind in ISSUE_KINDS.items() if kind.severity == "warning"}
    assert warnings == {
        *("near-leak", "duplicate-image", "duplicate-box", "mixed-rows", "missing-labels"),
        *("alike-classes", "empty-class", "class-unused", "name-differs", "unlisted-labels"),
        *("extraneous-bytes", "missing-scans", "misnamed-image", "link-cycle"),
    }
