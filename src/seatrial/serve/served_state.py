"""Which artifacts a service serves at this moment: what its processes read when they start."""

from __future__ import annotations

from pathlib import Path

import msgspec

from seatrial.errors import InvalidConfig
from seatrial.system.files import write_atomically, writing

STATE = "served.json"


class SecondState(msgspec.Struct, frozen=True):
    """A canary or a shadow.

    Attributes:
        path: Folder of its artifact.
        digest: Digest of it.
        name: Its name.
        share: Share of the requests, or of the copies of a shadow.
        shadow: Whether its answers are discarded.
    """

    path: str
    digest: str
    name: str
    share: float
    shadow: bool


class ServedState(msgspec.Struct, frozen=True):
    """The artifacts that each process of a service is to serve.

    Attributes:
        path: Folder of the artifact.
        digest: Digest of it.
        name: Its name.
        served_as: Name in the Open Inference Protocol.
        second: The canary, where there is one.
    """

    path: str
    digest: str
    name: str
    served_as: str
    second: SecondState | None = None

    @classmethod
    def read(cls, folder: Path) -> ServedState | None:
        """The state in a folder of a supervisor; None where nothing has been swapped yet.

        Raises:
            InvalidConfig: It cannot be read.
        """
        try:
            return msgspec.json.decode((folder / STATE).read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidConfig(f"{folder / STATE} cannot be read: {error}") from error

    def write(self, folder: Path) -> None:
        """Write it in one piece.

        Raises:
            NotWritable: It cannot be written; what was there before stays.
        """
        with writing(folder):
            write_atomically(folder / STATE, msgspec.json.encode(self))
