"""The 80 classes of COCO."""

from __future__ import annotations

from seatrial.detect.families.coco import COCO_CATEGORY_IDS, COCO_NAMES


def test_eighty_names_stand_for_ninety_numbers() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert len(COCO_CATEGORY_IDS) == 80
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert tuple(n for n in range(1, 91) if n not in gaps) == COCO_CATEGORY_IDS


def test_the_index_of_a_name_is_its_class() -> None:
    known = {"person": 0, "stop sign": 11, "sports ball": 32, "tv": 62, "toothbrush": 79}
    assert {name: COCO_NAMES.index(name) for name in known} == known
    by_name = dict(zip(COCO_NAMES, COCO_CATEGORY_IDS, strict=True))
    assert (by_name["backpack"], by_name["tv"], by_name["toothbrush"]) == (27, 72, 90)
