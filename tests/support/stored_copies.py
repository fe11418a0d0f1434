"""Artifacts of a store that have the files of another one."""

from __future__ import annotations

import msgspec

from seatrial.artifact import Artifact, Store


def commit(
    store: Store, like: Artifact, name: str, parent: str | None = None, *, replace: bool = False
) -> Artifact:
    """Commit the files of an artifact under another name, as a child of a digest."""
    with store.staging() as staged:
        for entry in like.manifest.files:
            (staged / entry.path).write_bytes((like.path / entry.path).read_bytes())
        changes = {"name": name, "parent": parent}
        manifest = msgspec.structs.replace(like.manifest, **changes)
        return store.commit(staged, manifest, replace=replace)
