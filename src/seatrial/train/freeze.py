"""Which weights stay as they are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from seatrial.errors import InvalidConfig


def prefixes(
    names: Sequence[str], freeze: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """What the names of frozen weights begin with.

    Args:
        names: Of all weights, as ``named_parameters`` gives them.
        freeze: Of the recipe: parts by name, or names of modules.
        parts: Part -> beginnings of its weights' names, each with its last dot.

    Raises:
        InvalidConfig: One is neither a part nor a module, with the nearest.
    """
    found: list[str] = []
    for one in freeze:
        begins = parts.get(one, (f"{one.removesuffix('.')}.",))
        if not any(name.startswith(tuple(begins)) for name in names):
            modules = {name.rsplit(".", depth)[0] for name in names for depth in (1, 2, 3)}
            near = difflib.get_close_matches(one, [*parts, *sorted(modules)], n=1, cutoff=0.3)
            raise InvalidConfig(
                f"freeze names {one!r}, which the model has not",
                hint=f"did you mean {near[0]!r}?" if near else f"parts: {', '.join(parts)}",
            )
        found += begins
    return tuple(found)
