"""The table of families. A new one is a new file and a line here.

One from outside is an entry point of its package, in the group `ENTRY_POINTS`; see
docs/guides/add-a-family.md.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import cast

from seatrial.detect.families.base import Family, FamilyClass, Recognition
from seatrial.errors import InvalidArtifact, UnknownFamily
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest

FAMILIES = {
    "yolo": "seatrial.detect.families.yolo:Yolo",
    "ssd": "seatrial.detect.families.ssd:Ssd",
    "detr": "seatrial.detect.families.detr:Detr",
    "yolox": "seatrial.detect.families.yolox:Yolox",
}
ENTRY_POINTS = "seatrial.families"  # a promise to installed packages: not the module's name


@functools.cache
def families() -> dict[str, str]:
    """Name of a family -> ``"module:Class"``: the table, then those of installed packages.

    A package cannot replace a family of the table: what an artifact means must not depend on
    what is installed.
    """
    found = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return FAMILIES | {p.name: p.value for p in found if p.name not in FAMILIES}


def family_class(name: str) -> FamilyClass:
    """Import a family by its name.

    Raises:
        InvalidArtifact: There is no such family, or the code of its package does not import.
    """
    table = families()
    if name not in table:
        raise InvalidArtifact(
            f"unknown family {name!r}",
            hint=f"known families: {', '.join(table)}; others come with packages of their own",
        )
    module, _, attribute = table[name].partition(":")
    try:
        return cast(FamilyClass, getattr(importlib.import_module(module), attribute))
    except Exception as error:  # a plugin's import raises anything
        if name in FAMILIES:
            raise
        raise InvalidArtifact(
            f"the family {name!r} of an installed package does not import ({table[name]}): "
            f"{type(error).__name__}: {error}",
            hint="repair or uninstall that package",
        ) from error


def family_of(manifest: Manifest) -> Family:
    """The family object of an artifact."""
    return family_class(manifest.family)(manifest)


def possible(
    graph: GraphSignature, *, origin: str, family: str | None = None
) -> list[tuple[str, Recognition]]:
    """Families that a model file may be of.

    Args:
        graph: Signature of the file.
        origin: The file's name, for errors.
        family: The one family that is asked; None: all, in the order of the table.

    Returns:
        Name of the family and what it read from the file: the first that is certain of it, alone;
        else all whose layout fits, one at least.

    Raises:
        UnknownFamily: No family supports the layout.
        InvalidArtifact: A family supports the layout and the file cannot be served, or there is
            no such family.
    """
    names = list(families()) if family is None else [family]
    fitting = []
    for name in names:
        kind = family_class(name)
        try:
            found = kind.recognise(graph)
        except InvalidArtifact as error:
            raise type(error)(f"{origin}: {error.message}", hint=error.hint) from error
        if found is not None and found.certain:
            return [(name, found)]
        if found is not None:
            fitting.append((name, found))
    if fitting:
        return fitting
    accepted = "; ".join(f"{name}: {family_class(name).accepts}" for name in names)
    known = "a known family" if family is None else f"the family {family}"
    raise UnknownFamily(
        f"{origin} is not a detector of {known}; it has {graph.describe()}",
        hint=f"accepted are {accepted}",
    )
