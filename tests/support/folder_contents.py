"""What a folder holds, for comparisons."""

from __future__ import annotations

from pathlib import Path


def content(folder: Path) -> dict[str, str]:
    """Path in the folder -> text, of all files; hidden ones too."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
