"""``seatrial init``: a name for the artifacts from that of the folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seatrial.cli.init import init
from seatrial.errors import InvalidInput
from seatrial.manifest import check_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Mein Projekt \N{LATIN SMALL LETTER A WITH DIAERESIS}", "mein-projekt-a"),
        ("-tools (2)", "tools-2"),
        ("\N{CJK UNIFIED IDEOGRAPH-732B}", "detector"),
        ("x" * 120, "x" * 60),
    ],
)
def test_a_folder_whose_name_is_none_for_artifacts_leads_to_name(
    tmp_path: Path, folder: str, name: str
) -> None:
    with pytest.raises(InvalidInput, match="folder's name, " + re.escape(repr(folder))) as refusal:
        init(tmp_path / folder)
    assert refusal.value.hint == f"give their name: --name {name}"
    assert check_name(name) == name
    assert not (tmp_path / folder).exists()
