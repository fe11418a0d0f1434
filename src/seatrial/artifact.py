"""Artifacts: a folder with the model files and one ``manifest.json``, immutable once written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from seatrial.config import decode_json
from seatrial.errors import InvalidArtifact, InvalidInput, did_you_mean
from seatrial.manifest import Manifest, ModelFile
from seatrial.system.files import sha256_file, writing

MANIFEST = "manifest.json"


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
            verify: Check every file's size and sha256.

        Raises:
            InvalidArtifact: The manifest is missing or of another schema, or a file is missing
                or changed.
        """
        manifest_path = path / MANIFEST
        try:
            data = manifest_path.read_bytes()
        except OSError as error:
            raise InvalidArtifact(
                f"{path} is not an artifact: {MANIFEST} cannot be read ({error.strerror})",
                hint="seatrial models list shows the artifacts in the store",
            ) from error
        try:
            manifest = decode_json(data, Manifest, origin=str(manifest_path))
        except InvalidInput as error:
            raise InvalidArtifact(error.message, hint=error.hint) from error
        _check_paths(manifest, manifest_path)
        artifact = cls(path, manifest, hashlib.sha256(data).hexdigest())
        if verify:
            artifact._verify()
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


def _check_paths(manifest: Manifest, origin: Path) -> None:
    """Refuse paths that lead out of the folder: the digest would not cover what they name."""
    for text in (*(entry.path for entry in manifest.files), *manifest.formats.values()):
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidArtifact(
                f"{origin} names the file {text!r}, which is outside of the artifact's folder",
                hint="pull or import the model again, with --replace",
            )


class Store:
    """A folder of artifacts, one folder each, named by the artifact.

    Args:
        root: The folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names of the artifacts, sorted."""
        # pathlib's * matches the dot of a folder that is being staged.
        return sorted(p.parent.name for p in self.root.glob(f"[!.]*/{MANIFEST}"))

    def open(self, name: str, *, fetched: Iterable[str] = ()) -> Artifact:
        """Open an artifact by name.

        Args:
            name: Name of the artifact.
            fetched: Names that could be fetched; the hint of the error may be one of them.

        Raises:
            InvalidArtifact: There is no artifact of that name, or it is damaged.
        """
        if not (self.root / name / MANIFEST).is_file():
            have = self.names()
            raise InvalidArtifact(
                f"no artifact named {name!r} in {self.root}; it holds: "
                f"{', '.join(have) or 'nothing yet'}",
                hint=did_you_mean(
                    name,
                    [*have, *fetched],
                    otherwise="seatrial models pull NAME, or seatrial models import FILE",
                ),
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

    def with_digest(self, digest: str) -> Artifact | None:
        """The artifact of a digest; None where it is not in the store. Its files are not hashed."""
        return self._by_digest().get(digest)

    def _by_digest(self) -> dict[str, Artifact]:
        known = {}
        for name in self.names():
            with contextlib.suppress(InvalidArtifact):
                one = Artifact.open(self.root / name, verify=False)
                known[one.digest] = one
        return known

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
            folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.root))
        try:
            with writing(place, within=self.root, setting="SEATRIAL_HOME"):
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
            InvalidInput: The name is taken by an artifact with other content.
        """
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
        if not _move(folder, target):
            same = _same_manifest(target, data)
            if same and not replace:
                with contextlib.suppress(InvalidArtifact):  # damaged: the new one takes its place
                    return Artifact.open(target)
            elif not replace:
                raise _name_taken(manifest.name)
            self._retire(target)
            if not _move(folder, target):
                raise _name_taken(manifest.name)
        return Artifact.open(target)

    def check_free(self, name: str) -> None:
        """Check that a name is free, before work that takes minutes.

        Raises:
            InvalidInput: There is an artifact of that name.
        """
        if (self.root / name / MANIFEST).exists():
            raise _name_taken(name)

    def _retire(self, target: Path) -> None:
        retired = Path(tempfile.mkdtemp(prefix=".retired-", dir=self.root))
        with contextlib.suppress(FileNotFoundError):  # another process retired it
            os.rename(target, retired / target.name)
        shutil.rmtree(retired, ignore_errors=True)


def _move(folder: Path, target: Path) -> bool:
    """Rename a folder; False where there is something at the target."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _same_manifest(target: Path, data: bytes) -> bool:
    try:
        return (target / MANIFEST).read_bytes() == data
    except OSError:
        return False


def _name_taken(name: str) -> InvalidInput:
    return InvalidInput(
        f"the store already has another artifact named {name!r}",
        hint="give this one another name (--name), or replace it (--replace)",
    )


NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """Check the name of an artifact, which is also the name of a folder and a part of a URL.

    Raises:
        InvalidInput: Its characters or its length do not fit.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name an artifact",
            hint="use a-z, 0-9, '.', '_' and '-'; the first a letter or a digit",
        )
    return name
