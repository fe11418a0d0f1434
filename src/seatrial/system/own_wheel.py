"""A requirement that gives another environment this Seatrial: a release, or a wheel of it."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import tomllib
import zipfile
from pathlib import Path

from seatrial.errors import InvalidInput
from seatrial.system.extras import installed_from

# Notes of an installer, which no wheel has; RECORD is written anew.
OF_INSTALLERS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file


def provide_package(folder: Path, *extras: str) -> str:
    """The requirement, as pip takes it in a folder; where there is no release, with a wheel in it.

    Args:
        folder: Gets ``wheels/``, unless Seatrial was installed from a package index.
        extras: Names of extras.

    Raises:
        InvalidInput: See `write_wheel`.
    """
    listed = f"[{','.join(extras)}]"
    if installed_from() is None and (version := _version()):
        return f"seatrial{listed}=={version}"
    return f"./{write_wheel(folder / 'wheels').relative_to(folder)}{listed}"


def _version() -> str:
    try:
        return importlib.metadata.version("seatrial")
    except importlib.metadata.PackageNotFoundError:
        return ""


def write_wheel(folder: Path) -> Path:
    """Write the wheel: the files of the package as they are now, and the installed metadata.

    Its members are those of a build of the checkout, without a build backend or an index.

    Args:
        folder: Where to write it; made if it is not there.

    Returns:
        The wheel.

    Raises:
        InvalidInput: Seatrial is not installed: a folder on ``PYTHONPATH`` has no metadata.
    """
    try:
        installed = importlib.metadata.distribution("seatrial")
    except importlib.metadata.PackageNotFoundError as error:
        raise InvalidInput(
            "Seatrial is not installed here, so that no project can install it",
            hint="pip install the checkout that it runs from",
        ) from error
    package = Path(__file__).parents[1]
    members = _below(package, "seatrial") | _documentation(package.parents[1])
    info = f"seatrial-{installed.version}.dist-info"
    for file in installed.files or ():
        if file.parts[0] == info and file.name not in OF_INSTALLERS:
            members[str(file)] = Path(str(file.locate())).read_bytes()
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items()]
    members[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"seatrial-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
    return wheel


def _below(folder: Path, name: str) -> dict[str, bytes]:
    return {
        f"{name}/{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _documentation(checkout: Path) -> dict[str, bytes]:
    """Members that a build adds to the package; empty where there is no checkout."""
    if not (project := checkout / "pyproject.toml").is_file():
        return {}
    build = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    members = dict[str, bytes]()
    for source, place in build["targets"]["wheel"]["force-include"].items():
        path = checkout / source
        members |= {place: path.read_bytes()} if path.is_file() else _below(path, place)
    return members


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
