"""Scratch folders of killed commands, and imports that are not used any more."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from pathlib import Path

import msgspec

from seatrial.artifact import IMPORTS, MANIFEST, RETIRED, STAGING, Store
from seatrial.config import MOST_BYTES, UNDECODABLE
from seatrial.system.files import bounded_bytes, move, writing
from seatrial.system.locks import is_in_use

UNUSED_S = 86_400.0  # age of its last use from which on an import may be removed
# Age after which a scratch folder that is not in use is a leftover: it is marked a moment after it
# is made.
SETTLED_S = 60.0


def leftovers(store: Store) -> list[Path]:
    """Scratch folders of steps that were killed, and imports that are not used, sorted.

    Scratch folders of running steps are left out: they are in use, or changed within `SETTLED_S`.
    An import counts as unused where nothing has opened it for `UNUSED_S` and no artifact, also of
    another version, was made of it.
    """
    found = [p for prefix in (STAGING, RETIRED) for p in store.root.glob(f"{prefix}*")]
    if store.root.name != IMPORTS:
        found += [*_unused_imports(store), *leftovers(store.imports)]
    return sorted(p for p in found if _is_older(p, SETTLED_S) and not _is_running(p))


def remove_leftover(store: Store, folder: Path) -> bool:
    """Remove one of `leftovers`, or put back the artifact in it.

    An artifact that was taken out of its place, and whose successor never got there, is put back.
    A link is not: it was a tag.

    Returns:
        Whether it was removed, and not put back.

    Raises:
        NotWritable: It cannot be removed.
    """
    back = False
    with writing(folder):
        if folder.name.startswith(RETIRED):
            for retired in folder.iterdir():
                back |= not retired.is_symlink() and move(retired, store.root / retired.name)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink()
    return not back


def _is_older(path: Path, seconds: float) -> bool:
    """Whether a folder, a file or a link did not change lately; false where it is gone by now.

    A time in the future is that of a clock that was put back since: it says nothing else.
    """
    try:
        return not 0 <= time.time() - path.lstat().st_mtime <= seconds
    except FileNotFoundError:
        return False


def _is_running(path: Path) -> bool:
    return path.is_dir() and is_in_use(path)


def _unused_imports(store: Store) -> list[Path]:
    folders = (store.imports.root / name for name in store.imports.entries())
    old = [folder for folder in folders if _is_older(folder, UNUSED_S)]
    made = (_digest_and_parent(store.root / name) for name in store.names()) if old else ()
    parents = {parent for _, parent in made if parent}
    return [folder for folder in old if _digest_and_parent(folder)[0] not in parents]


def _digest_and_parent(folder: Path) -> tuple[str, str]:
    """Digest of an artifact and of its parent, also of another version; empty where not known."""
    try:
        data = bounded_bytes(folder / MANIFEST, MOST_BYTES)
    except OSError:
        return "", ""
    digest = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(*UNDECODABLE):
        manifest: object = msgspec.json.decode(data)
        if isinstance(manifest, dict) and isinstance(manifest.get("parent"), str):
            return digest, manifest["parent"]
    return digest, ""
