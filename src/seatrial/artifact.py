"""Artifacts: a folder with the model files and one ``manifest.json``, immutable once written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from seatrial.config import MOST_BYTES, decode_json
from seatrial.errors import InvalidArtifact, InvalidInput, did_you_mean
from seatrial.manifest import Manifest, ModelFile, check_name, check_texts
from seatrial.system.files import (
    TAKEN,
    bounded_bytes,
    discard,
    move,
    put_in_place,
    sha256_file,
    writing,
)
from seatrial.system.locks import in_use

MANIFEST = "manifest.json"
# Scratch folders of a store: a new artifact, and an old one that it replaces.
STAGING, RETIRED = ".staging-", ".retired-"
IMPORTS = ".imports"  # folder of a store: models that were named by their file
UNREADABLE = (
    "it is damaged or of another version of Seatrial: pull or import the model again, with "
    "--replace, or remove it (seatrial models rm)"
)


class Artifact:
    """A verified artifact folder, opened for reading.

    Attributes:
        path: The folder.
        manifest: Its decoded manifest.
        digest: sha256 of ``manifest.json``. It identifies the artifact with all its files, since
            the manifest holds their hashes.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Artifact:
        """Open a folder.

        Args:
            path: Folder with a ``manifest.json``.
            verify: Check every file's size and sha256. Of an import this is also its last use,
                for ``seatrial models gc``.

        Raises:
            InvalidArtifact: The manifest is missing, of another schema, or has a text that
                `check_texts` refuses; or a file is missing or changed.
        """
        manifest_path = path / MANIFEST
        try:
            data = bounded_bytes(manifest_path, MOST_BYTES)
        except OSError as error:
            raise InvalidArtifact(
                f"{path} is not an artifact: {MANIFEST} cannot be read ({error.strerror})",
                hint="seatrial models list shows the artifacts in the store",
            ) from error
        try:
            manifest = decode_json(data, Manifest, origin=str(manifest_path))
        except InvalidInput as error:
            raise InvalidArtifact(error.message, hint=error.hint or UNREADABLE) from error
        check_texts(manifest, manifest_path)
        artifact = cls(path, manifest, hashlib.sha256(data).hexdigest())
        if verify:
            artifact._verify()
            if path.parent.name == IMPORTS:  # whoever checks the files is about to use them
                with contextlib.suppress(OSError):  # a store that cannot be written keeps them
                    os.utime(path)
        return artifact

    def file(self, format_name: str) -> Path:
        """Path of the file in a format, which an engine opens.

        Raises:
            InvalidArtifact: The artifact has no graph in that format.
        """
        if format_name not in self.manifest.formats:
            raise InvalidArtifact(
                f"{self.manifest.name} has no {format_name} graph; it has: "
                f"{', '.join(self.manifest.formats)}",
                hint=f"make one: seatrial export {self.manifest.name} --to {format_name} "
                "--images FOLDER",
            )
        return self.path / self.manifest.formats[format_name]

    def _verify(self) -> None:
        for entry in self.manifest.files:
            file = self.path / entry.path
            if not file.is_file():
                raise InvalidArtifact(
                    f"{file} is missing", hint="pull or import the model again, with --replace"
                )
            if file.stat().st_size != entry.size_bytes or sha256_file(file) != entry.sha256:
                raise InvalidArtifact(
                    f"{file} is not the file that the manifest names (size or sha256 differs)",
                    hint="artifacts are immutable: pull or import the model again, with --replace",
                )


class Store:
    """A folder of artifacts, one folder each, named by the artifact.

    Args:
        root: The folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def entries(self) -> list[str]:
        """Names of all that lies in the store but scratch folders, sorted, readable or not."""
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(self.root) if not name.startswith("."))
        return []

    def names(self) -> list[str]:
        """Names of the folders with a manifest, sorted; it may not be a readable one."""
        tags = self.tags()
        return [n for n in self.entries() if n not in tags and self._has_manifest(n)]

    def tags(self) -> dict[str, str]:
        """Tag -> name of its artifact: a tag is a link to another folder of the store."""
        found = {}
        for name in self.entries():
            with contextlib.suppress(OSError):  # not a link
                found[name] = os.readlink(self.root / name)
        return {tag: name for tag, name in found.items() if "/" not in name}

    def has(self, name: str) -> bool:
        """Whether there is an artifact or a tag of that name."""
        return name in self.names() or name in self.tags()

    def artifacts(self) -> dict[str, Artifact]:
        """Name -> artifact, sorted, of those that can be read; their files are not hashed."""
        return {name: one for name, one in self._look() if isinstance(one, Artifact)}

    def unreadable(self) -> dict[str, str]:
        """Name -> why it cannot be read, of all that lies in the store and is of no use there."""
        return {name: one for name, one in self._look() if isinstance(one, str)}

    def _look(self) -> Iterator[tuple[str, Artifact | str]]:
        """Name and artifact, or words for what cannot be read, of all entries but sound tags."""
        tags = self.tags()
        for name in self.entries():
            if name in tags and self._has_manifest(name):
                continue
            try:
                yield name, Artifact.open(self.root / name, verify=False)
            except InvalidArtifact as error:
                lost = f"a tag of {tags[name]}, which is not an artifact" if name in tags else ""
                yield name, lost or error.message

    def _has_manifest(self, name: str) -> bool:
        return "/" not in name and os.path.isfile(self.root / name / MANIFEST)

    @property
    def imports(self) -> Store:
        """The cache of models that were named by their file; see docs/decisions/0021."""
        return Store(self.root / IMPORTS)

    def open(self, name: str, *, fetched: Iterable[str] = ()) -> Artifact:
        """Open an artifact by name.

        Args:
            name: Name of the artifact.
            fetched: Names that could be fetched; one of them is the hint of the error where
                no name in the store is near.

        Raises:
            InvalidArtifact: There is no artifact of that name, or it is damaged.
        """
        if self.root.name != IMPORTS and not self.has(name) and self.imports.has(name):
            return self.imports.open(name)
        if not self._has_manifest(name):
            have = [*self.names(), *self.tags()]
            raise InvalidArtifact(
                f"no artifact named {name!r} in {self.root}; it holds: "
                f"{', '.join(have) or 'nothing yet'}",
                hint=did_you_mean(name, have, otherwise=_could_fetch(name, fetched)),
            )
        return Artifact.open(self.root / name)

    def steps_between(self, child: Artifact, ancestor: Artifact) -> list[str]:
        """Names of the steps from an ancestor to a child, the last one first.

        Empty where the two are not related, or an artifact between them is not in the store.
        """
        known = {ancestor.digest: ancestor, **self._by_digest()}  # it may lie outside of the store
        steps, at = list[str](), child
        while at.digest != ancestor.digest:
            steps.append(at.manifest.step.name)
            if at.manifest.parent not in known:
                return []
            at = known[at.manifest.parent]
        return steps

    def lineage(self, artifact: Artifact | None) -> list[Artifact]:
        """The artifact, its parent, and so on, as far as they are in the store; None has none."""
        if artifact is None:
            return []
        known, found = self._by_digest(), [artifact]
        while (parent := known.get(found[-1].manifest.parent or "")) is not None:
            found.append(parent)
        return found

    def with_digest(self, digest: str) -> Artifact | None:
        """The artifact of a digest; None where it is not in the store. Its files are not hashed."""
        return self._by_digest().get(digest)

    def _by_digest(self) -> dict[str, Artifact]:
        known = (*self.imports.artifacts().values(), *self.artifacts().values())
        return {one.digest: one for one in known}

    def children(self, name: str) -> list[str]:
        """Names of the artifacts in the store that were made of another one."""
        known = self.artifacts()
        digest = known[name].digest if name in known else None
        return [n for n, one in known.items() if digest and one.manifest.parent == digest]

    def remove(self, name: str) -> list[str]:
        """Remove an artifact with its tags, a tag alone, or an entry that cannot be read.

        Returns:
            The names that are gone, tags after their artifact.

        Raises:
            InvalidArtifact: There is nothing of that name.
            NotWritable: It cannot be removed.
        """
        if name not in self.entries():
            self.open(name)  # its error
        tags = self.tags()
        gone = [name] if name in tags else [name, *(t for t, of in tags.items() if of == name)]
        with writing(self.root / name):
            for tag in set(gone) & tags.keys():
                (self.root / tag).unlink()
            if name not in tags:
                # Out of sight in one step: whoever opens it meanwhile finds all of it or nothing.
                scratch = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.root))
                os.rename(self.root / name, scratch / name)
                for older in self.root.glob(f"{RETIRED}*/{name}"):  # must not come back for it
                    discard(older)
                shutil.rmtree(scratch)
        return gone

    def tag(self, name: str, tag: str, *, replace: bool = False) -> Artifact:
        """Give an artifact a second name.

        Args:
            name: Name or tag of the artifact.
            tag: The new name.
            replace: Whether a tag of that name may be moved.

        Raises:
            InvalidArtifact: There is no artifact of that name.
            InvalidInput: The tag is no name, an artifact's name, or another artifact's tag.
            NotWritable: The store cannot be written.
        """
        check_name(tag)
        artifact = self.open(name)
        folder = self.tags().get(name, name)
        if artifact.path.parent != self.root:
            raise InvalidInput(
                f"{name} is an import, which a tag does not keep",
                hint="seatrial models import FILE --name NAME puts it into the store",
            )
        if tag in self.entries() and tag not in self.tags():
            what = "an artifact" if tag in self.names() else f"something in {self.root}"
            raise InvalidInput(f"{tag!r} is {what}, not a tag", hint="choose another name for it")
        if self.tags().get(tag, folder) != folder and not replace:
            raise InvalidInput(
                f"{tag!r} is a tag of {self.tags()[tag]}", hint="move it with --replace"
            )
        with (
            writing(self.root / tag),
            tempfile.TemporaryDirectory(dir=self.root, prefix=STAGING) as at,
        ):
            os.symlink(folder, Path(at) / tag)
            os.replace(Path(at) / tag, self.root / tag)
        return artifact

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A scratch folder on the store's file system, removed unless `commit` moved it.

        A step that fails or is killed leaves the store unchanged.

        Raises:
            NotWritable: The store's folder cannot be made or written, or is full.
        """
        place = f"the store {self.root}"
        with writing(place, setting="SEATRIAL_HOME"):
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.root))
        try:
            with in_use(folder), writing(place, within=self.root, setting="SEATRIAL_HOME"):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path, manifest: Manifest, *, replace: bool = False) -> Artifact:
        """Seal a staged folder: hash its files, write the manifest, move it into place.

        Where several processes commit one name, one succeeds and the others follow it.

        Args:
            folder: From `staging`; every file in it becomes part of the artifact.
            manifest: The manifest without ``files``, which are filled in here.
            replace: Whether it may replace an artifact of the same name with other content.

        Returns:
            The artifact. An existing one with the same content stays, unless it is damaged.

        Raises:
            InvalidInput: The name is taken by an artifact with other content, by a tag, or by
                something that is not an artifact; or it is no name.
        """
        check_name(manifest.name)
        self._check_tags(manifest.name, replaced=False)
        entries = tuple(
            ModelFile(str(p.relative_to(folder)), sha256_file(p), p.stat().st_size)
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        )
        data = msgspec.json.format(
            msgspec.json.encode(msgspec.structs.replace(manifest, files=entries)), indent=2
        )
        target = self.root / manifest.name
        (folder / MANIFEST).write_bytes(data)
        folder.chmod(0o755)
        if not move(folder, target):
            same = _same_manifest(target, data)
            if same:
                with contextlib.suppress(InvalidArtifact):  # damaged: the new one takes its place
                    return Artifact.open(target)
            elif not replace:
                raise _name_taken(manifest.name)
            self._check_is_artifact(manifest.name)
            self._check_tags(manifest.name, replaced=not same)
            self._replace(folder, target)
        return Artifact.open(target)

    def check_free(self, name: str, *, replace: bool = False) -> None:
        """Check that `commit` may take a name, before work that takes minutes.

        Raises:
            InvalidInput: There is an artifact or a tag of that name, or what is replaced has tags;
                or something else lies in its place.
        """
        self._check_tags(name, replaced=replace)
        self._check_is_artifact(name)
        if self.has(name) and not replace:
            raise _name_taken(name)

    def _check_is_artifact(self, name: str) -> None:
        """Check that what lies in an artifact's place is one: anything else may be somebody's."""
        if (self.root / name).exists() and not self._has_manifest(name):
            with contextlib.suppress(OSError):  # a file, or a folder that cannot be read
                if not any((self.root / name).iterdir()):
                    return
            raise InvalidInput(
                f"{self.root / name} is not an artifact and is not replaced",
                hint="move it away, or give another name (--name)",
            )

    def _check_tags(self, name: str, *, replaced: bool) -> None:
        tags = self.tags()
        own = sorted(tag for tag, of in tags.items() if replaced and of == name)
        if own or name in tags:
            raise InvalidInput(
                f"{name} has the tag {', '.join(own)}: a deployment may serve it by that"
                if own
                else f"{name!r} is a tag of {tags[name]}",
                hint="give this one another name (--name), then move the tag: seatrial models tag "
                f"NAME {own[0] if own else name} --replace",
            )

    def _replace(self, folder: Path, target: Path) -> None:
        scratch = Path(tempfile.mkdtemp(prefix=RETIRED, dir=self.root))
        retired = scratch / target.name
        with in_use(scratch):
            try:
                put_in_place(folder, target, retired)
            except OSError as error:
                if error.errno in TAKEN:  # another process was faster
                    raise _name_taken(target.name) from error
                raise
            finally:
                if target.exists():
                    discard(retired)
                with contextlib.suppress(OSError):
                    scratch.rmdir()


def _same_manifest(target: Path, data: bytes) -> bool:
    try:
        return bounded_bytes(target / MANIFEST, MOST_BYTES) == data
    except OSError:
        return False


def _name_taken(name: str) -> InvalidInput:
    return InvalidInput(
        f"the store already has another artifact named {name!r}",
        hint="give this one another name (--name), or replace it (--replace)",
    )


def _could_fetch(name: str, fetched: Iterable[str]) -> str:
    near = did_you_mean(name, fetched, otherwise="")
    if near:
        nearest = near.split("'")[1]
        return f"{near} it is fetched by: seatrial models pull {nearest}"
    return "seatrial models pull NAME, or seatrial models import FILE"
