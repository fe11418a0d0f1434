"""Text of any characters, as Hypothesis draws it by default, without its slow start."""

from __future__ import annotations

from hypothesis import strategies as st

# What UTF-8 can write is all but surrogates. `st.text()` finds that out by encoding every
# character once, which costs ten seconds of a core in a fresh checkout.
CHARACTERS = st.characters(exclude_categories=("Cs",))


def text(min_size: int = 0, max_size: int | None = None) -> st.SearchStrategy[str]:
    """As `hypothesis.strategies.text`."""
    return st.text(CHARACTERS, min_size=min_size, max_size=max_size)
