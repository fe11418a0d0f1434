"""The guide on securing a service: its commands run, against a service that it starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from seatrial.artifact import Artifact
from seatrial.serve.address import free_port
from seatrial.system.children import end

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "secure-a-service.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
BENCH = " --single-stream-requests 20 --warmup-s 0.1 --single-stream-s 0.5"

pytestmark = pytest.mark.slow


class Reader:
    """Does what the guide says, in a folder."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.port = folder, model, free_port("127.0.0.1")
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in paths if path),
            "SEATRIAL_HOME": str(folder / "home"),
        }
        self.service: subprocess.Popen[str] | None = None
        self.log = ""

    def read(self, kind: str, text: str) -> str:
        """Run a block; what it prints."""
        text = text.replace(":3000", f":{self.port}").replace("yolo11n", str(self.model))
        if text.startswith("seatrial serve"):
            self.stop()
            self._serve(text.strip())
            return ""
        if text.startswith("seatrial bench"):
            text = text.strip() + BENCH
        command = ["bash", "-euc", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _serve(self, text: str) -> None:
        words = [*text.split(), "--on", "uvicorn", "--engine", "null", "--port", str(self.port)]
        self.service = subprocess.Popen(
            [sys.executable, "-c", "from seatrial.cli.main import main; main()", *words[1:]],
            cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.service.stderr is not None
        for line in self.service.stderr:
            self.log += line
            if line.startswith("ready:"):
                return
        pytest.fail(f"the service did not start:\n{self.log}")

    def stop(self) -> None:
        if self.service is not None:
            end(self.service, grace_s=40)
            assert self.service.stderr is not None
            self.log += self.service.stderr.read()
            self.service.stderr.close()
            self.service = None


@pytest.fixture
def reader(
    tiny_artifact: Artifact, picture: Callable[..., Image.Image], tmp_path: Path
) -> Iterator[Reader]:
    for program in ("bash", "curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"the command {program} is not installed")
    (tmp_path / "photos").mkdir()
    for name in ("astronaut.jpg", "2.jpg"):
        picture().save(tmp_path / "photos" / name)
    reader = Reader(tmp_path, tiny_artifact.path)
    yield reader
    reader.stop()


def test_every_command_of_the_guide(reader: Reader, tmp_path: Path) -> None:
    said = [reader.read(kind, text) for kind, text in BLOCKS]
    reader.stop()
    by_block = dict(enumerate(said))
    first, second = (by_block[number] for number in (2, 6))
    assert '"Unauthorized"' in first
    assert "ok\n" in first
    assert '"name":"tiny"' in first
    assert second.startswith("ok\n")
    assert '"name":"tiny"' in second
    tokens = (tmp_path / "tokens").read_text().split()
    assert len(tokens) == 2
    assert (tmp_path / "tokens").stat().st_mode & 0o777 == 0o600
    report = (tmp_path / "report.json").read_text() + (tmp_path / "report.html").read_text()
    assert not any(token in report + reader.log for token in tokens)
