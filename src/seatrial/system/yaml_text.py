"""YAML files that people and other tools wrote: each failure is one error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seatrial.errors import SeatrialError, shortened, shown
from seatrial.system.extras import require
from seatrial.system.text import read_text

# Values of a file with aliases, each in the place of what it refers to: a few lines can stand for
# more values than memory holds.
MOST_VALUES = 200_000
# PyYAML raises these where a value is not what its tag says, such as ``!!timestamp x``.
BEYOND = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def read_yaml(
    path: Path,
    *,
    error: type[SeatrialError],
    extra: str,
    hint: str,
    as_written: bool = True,
) -> Any:
    """The content of a YAML file.

    Args:
        path: The file.
        error: Class of the error for a file that cannot be read.
        extra: Extra of this package that brings PyYAML.
        hint: Hint of the error for what is not YAML.
        as_written: Read ``no``, ``007`` and ``2021-06-01`` as text, keys too: a class can have any
            name. Else they are a truth value, a number and a date, as YAML 1.1 says. ``null`` is
            None both ways.

    Raises:
        SeatrialError: An `error`: it is no text, no YAML, has a key twice, or stands for more than
            `MOST_VALUES` values.
        MissingExtra: PyYAML is not installed.
    """
    yaml = require("yaml", extra=extra, purpose=f"reading {path.name}")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]  # imported on use
        """A safe loader that refuses keys that are there twice."""

        def get_single_node(self) -> Any:
            node = super().get_single_node()  # keys that are merged expand as it is read further
            if node is not None:
                counts: dict[Any, int] = {}
                if _values(node, counts) > max(MOST_VALUES, len(counts)):
                    raise ValueError(f"it stands for more than {MOST_VALUES:,} values")
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            known: set[Any] = set()
            for key_node, _ in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    continue  # no key for Python: an error of the loader
                merged = key_node.tag == "tag:yaml.org,2002:merge"
                key = key_node.value if merged else self.construct_object(key_node, deep=True)
                if key in known:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {shown(key)} is there twice", node.start_mark
                    )
                known.add(key)
            return super().construct_mapping(node, deep)

    for tag in ("bool", "int", "float", "timestamp") if as_written else ():
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", yaml.SafeLoader.construct_scalar)
    try:
        return yaml.load(read_text(path, error=error), Loader=Loader)
    except (yaml.YAMLError, *BEYOND) as wrong:
        said = shortened(" ".join(str(wrong).split()), 300)
        raise error(f"{path} is not YAML: {said}", hint=hint) from wrong


def _values(node: Any, counts: dict[Any, int]) -> int:
    """The number of values that a node stands for; `counts` gets that of each node in it."""
    if node in counts:  # 0 while it is counted: it refers to itself
        return counts[node] or MOST_VALUES
    counts[node] = 0
    inner = () if isinstance(node.value, str) else node.value
    parts = (part for row in inner for part in (row if isinstance(row, tuple) else (row,)))
    counts[node] = 1 + sum(_values(part, counts) for part in parts)
    return counts[node]
