"""How far two detectors' answers for the same images are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays
from seatrial.export.report import OutputError


def output_errors(
    parent: Sequence[Arrays], child: Sequence[Arrays], *, ordered: bool, limit: float
) -> tuple[OutputError, ...]:
    """Compare raw outputs, image by image.

    Args:
        parent: Outputs of batch size 1 for each image.
        child: The same, of the other graph.
        ordered: Rows have fixed places. Else the outputs are joined to rows ``(Q, columns)`` and
            each is compared with the nearest of the other's: queries that a model picks by their
            scores change places when two scores are equal but for the last bit.
        limit: Largest error, as a share of the output's largest value (at least 1).

    Returns:
        One entry an output; one in all where rows have no order.
    """
    names = list(parent[0])
    if not ordered:
        return (_set_error("+".join(names), names, parent, child, limit),)
    return tuple(_ordered_error(name, parent, child, limit) for name in names)


def _ordered_error(
    name: str, parent: Sequence[Arrays], child: Sequence[Arrays], limit: float
) -> OutputError:
    scale = max(float(np.abs(one[name]).max()) for one in parent)
    errors = [
        np.abs(a[name].astype(np.float64) - b[name]) for a, b in zip(parent, child, strict=True)
    ]
    allowed = limit * max(1.0, scale)
    return OutputError(
        name=name,
        worst=max(float(error.max()) for error in errors),
        mean=float(np.mean([error.mean() for error in errors])),
        scale=scale,
        within=float(np.mean([(error <= allowed).mean() for error in errors])),
        ordered=True,
    )


def _set_error(
    joined: str,
    names: Sequence[str],
    parent: Sequence[Arrays],
    child: Sequence[Arrays],
    limit: float,
) -> OutputError:
    nearest, scale, within = [], 0.0, []
    for a, b in zip(parent, child, strict=True):
        rows, others = _rows(a, names), _rows(b, names)
        # Pixels would drown confidences: every column is measured in its own greatest value.
        unit = np.maximum(1.0, np.abs(rows).max(axis=0))
        distance = np.stack([np.abs((others - row) / unit).max(axis=1) for row in rows])
        partner = distance.argmin(axis=1)
        found = distance[np.arange(len(rows)), partner]
        # A row that two have as their nearest counts for one.
        once = np.zeros(len(rows), np.bool_)
        once[np.unique(partner, return_index=True)[1]] = True
        within.append(((found <= limit) & once).mean())
        nearest.append(found)
        scale = max(scale, float(np.abs(rows).max()))
    return OutputError(
        name=joined,
        worst=float(np.max(nearest)),
        mean=float(np.mean(nearest)),
        scale=scale,
        within=float(np.mean(within)),
        ordered=False,
    )


def _rows(outputs: Arrays, names: Sequence[str]) -> NDArray[np.float64]:
    """(Q, columns) of all outputs of one image side by side."""
    parts = [np.asarray(outputs[name][0], np.float64) for name in names]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
