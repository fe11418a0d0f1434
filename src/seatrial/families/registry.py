"""The table of families. A new one is a new file and a line here."""

from __future__ import annotations

import importlib
from typing import cast

from seatrial.artifact import Manifest
from seatrial.errors import InvalidArtifact, UnknownFamily
from seatrial.families.base import Family, FamilyClass, GraphSignature, Recognition

FAMILIES = {
    "yolo": "seatrial.families.yolo:Yolo",
    "ssd": "seatrial.families.ssd:Ssd",
}


def family_class(name: str) -> FamilyClass:
    """Import a family by its name in the table.

    Raises:
        InvalidArtifact: No such family.
    """
    if name not in FAMILIES:
        raise InvalidArtifact(
            f"unknown family {name!r}", hint=f"known families: {', '.join(FAMILIES)}"
        )
    module, _, attribute = FAMILIES[name].partition(":")
    return cast(FamilyClass, getattr(importlib.import_module(module), attribute))


def family_of(manifest: Manifest) -> Family:
    """The family object of an artifact."""
    return family_class(manifest.family)(manifest)


def recognise(graph: GraphSignature, *, origin: str) -> tuple[str, Recognition]:
    """Tell the family of a model file.

    Args:
        graph: What the file shows.
        origin: The file's name, for the error.

    Returns:
        Name of the family and what it read off the file.

    Raises:
        UnknownFamily: None of the families knows the layout.
        InvalidArtifact: A family knows it, and it cannot be served.
    """
    for name in FAMILIES:
        found = family_class(name).recognise(graph)
        if found is not None:
            return name, found
    accepted = "; ".join(f"{name}: {family_class(name).accepts}" for name in FAMILIES)
    raise UnknownFamily(
        f"{origin} is not a detector that is known here; it has {graph.describe()}",
        hint=f"accepted are {accepted}",
    )
