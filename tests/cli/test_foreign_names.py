"""Names of other tools: each leads to an option or a command that exists."""

from __future__ import annotations

import re
from functools import cache

import pytest

from seatrial.cli import main
from seatrial.cli.foreign_names import COMMANDS, OPTIONS, hint_for_option

APP = main.build()


@cache
def options(*command: str) -> frozenset[str]:
    """The options of a command, hidden ones left out."""
    app = APP
    for word in command:
        app = app[word]
    found = app.assemble_argument_collection(parse_docstring=False)
    return frozenset(name for one in found if one.show for name in one.names)


def commands_in(text: str) -> list[tuple[str, ...]]:
    """The commands that a hint names."""
    found: list[tuple[str, ...]] = []
    for words in re.findall(r"seatrial ((?:[a-z0-9]+ ?)+)", text):
        path: list[str] = []
        app = APP
        for word in words.split():
            if word not in list(app):
                break
            path.append(word)
            app = app[word]
        found.append(tuple(path))
    return found


def test_a_command_of_another_tool_leads_to_one_of_ours() -> None:
    for word, hint in COMMANDS.items():
        assert word not in list(APP)
        if "seatrial --" not in hint and word != "settings":
            assert commands_in(hint), word
            assert all(commands_in(hint)), word


def test_an_option_of_another_tool_leads_to_one_of_ours() -> None:
    for command, rows in OPTIONS.items():
        for name, hint in rows.items():
            assert all(commands_in(hint)), hint
            own = {"": ("detect",), "canary": ("canary", "start")}.get(command, (command,))
            named = [*commands_in(hint), own]
            known = set().union(*(options(*path) for path in named), {"--deployment", "--output"})
            for option in re.findall(r"--[a-z][a-z0-9-]*", hint):
                assert option in known, (command, name, option)


@pytest.mark.parametrize(
    ("command", "typed", "hint"),
    [
        ("detect", "conf=0.3", "--confidence"),
        ("detect", "--save_txt", "--json prints"),
        ("detect", "--conf-thres", "--confidence"),
        ("detect", "iou=0.5", ""),
        ("detect", "what=0.5", ""),
        ("detect", "--what", ""),
        ("detect", "image.jpg", ""),
        ("finetune", "hsv_h=0", "[augmentation]"),
        ("serve", "--max-batch-size", "[batching]"),
        ("serve", "--api_workers", "--workers"),
        ("serve", "--ssl-certfile", "--tls-certificate"),
        ("canary", "--weight", "--share"),
    ],
)
def test_spellings(command: str, typed: str, hint: str) -> None:
    found = hint_for_option((command,), typed)
    assert hint in found
    assert bool(hint) == bool(found)
