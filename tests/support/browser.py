"""A Chromium that can reach nothing but this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

PATIENCE_MS = 120_000
# Between two looks at a page, unless it is told, there is one frame: the page is drawn for it.
POLL_MS = 100
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    # No name is found: what a page asks another host for fails, and is seen to be asked for.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One profile for all tests: a page's scripts are fetched and compiled for the first only."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=found,
            args=FLAGS,
            permissions=["camera"],
            reduced_motion="reduce",
        ) as context,
    ):
        context.set_default_timeout(PATIENCE_MS)
        yield context
