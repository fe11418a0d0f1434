"""Errors in the words of a command: in the style of all other errors, with a hint that helps."""

from __future__ import annotations

import difflib
import itertools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from seatrial.cli.foreign_names import hint_for_command, hint_for_option
from seatrial.errors import InvalidArtifact, InvalidConfig, InvalidInput, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cyclopts import (
        App,
        Argument,
        ArgumentCollection,
        CycloptsError,
        MissingArgumentError,
        UnknownOptionError,
    )

    from seatrial.errors import SeatrialError

TAKE_MODEL = [(name,) for name in ("detect", "serve", "bench", "judge", "demo", "reload")]
MODEL_FILES = (".onnx", ".xml", ".pt")
# Said of a parameter (`Annotated`) whose value may be an empty word, though its default is not.
MAY_BE_EMPTY = "may be empty"
SHOWN_TYPES = {"int": "a whole number", "float": "a number", "Path": "a path", "bool": "yes or no"}


def check_values(app: App, words: Sequence[str], arguments: ArgumentCollection) -> None:
    """Check that no value is empty but where that has a meaning.

    As a path it would be the working folder.

    Such a place has an empty value by default, or says `MAY_BE_EMPTY`.

    Args:
        app: The command; as cyclopts calls what `App` takes as ``config``.
        words: Its name: ``("models", "search")``.
        arguments: The command's arguments, with what is given for each.

    Raises:
        InvalidConfig: One is empty.
    """
    from cyclopts import UNSET

    for argument in arguments:
        field = argument.field_info
        if field.default == "" or MAY_BE_EMPTY in get_args(field.annotation):
            continue
        for token in argument.tokens:
            if not token.value and token.implicit_value is UNSET:
                raise InvalidConfig(
                    f"{token.keyword or _shown_name(argument)} is empty",
                    hint="give a value, or leave it out; a variable of the shell may not be set",
                )


def usage_error(error: CycloptsError) -> InvalidConfig:
    """The error of a command line that cannot be parsed.

    Args:
        error: The parser's error.
    """
    from cyclopts import CoercionError, MissingArgumentError, UnknownOptionError
    from cyclopts.exceptions import RepeatArgumentError, UnknownCommandError, UnusedCliTokensError

    words = tuple(error.command_chain or ())
    command = " ".join(("seatrial", *words))
    page = f"{command} --help lists what it takes"
    match error:
        case UnknownOptionError():
            return _unknown_option(error, words, page)
        case UnknownCommandError():
            return _unknown_command(error, command)
        case CoercionError(token=token, target_type=kind) if token is not None:
            name = token.keyword or _shown_name(error.argument)
            return InvalidConfig(f"{name} takes {_values(kind)}, not {token.value!r}", hint=page)
        case MissingArgumentError():
            return _missing(error, words, command, page)
        case RepeatArgumentError():
            message = f"{error.token.keyword} is given twice"
            return InvalidConfig(message, hint="give it once")
        case UnusedCliTokensError():
            (unused, *_) = error.unused_tokens or [""]
            if words[:1] in TAKE_MODEL and (model := _model_in(sys.argv[1:])):
                hint = with_model(sys.argv[1:], model)
                return InvalidConfig(f"{model!r} is a model: --model names it", hint=hint)
            hint = hint_for_option(words, unused) or page
            return InvalidConfig(f"{command} has no use for {unused!r}", hint=hint)
        case _:
            error.verbose = False
            return InvalidConfig(first_line(error).rstrip("."), hint=page)


def _unknown_option(error: UnknownOptionError, words: tuple[str, ...], page: str) -> InvalidConfig:
    if (error.token.keyword or error.token.value) == "-":
        return InvalidConfig(
            f"- (standard input) is not read by seatrial {' '.join(words)}",
            hint="name a file; where the system has it, /dev/stdin is one",
        )
    option = (error.token.keyword or error.token.value).partition("=")[0]
    known = [name for one in error.argument_collection if one.parse for name in one.names]
    command = " ".join(("seatrial", *words))
    hint = hint_for_option(words, option) or _nearest(option, known) or page
    return InvalidConfig(f"{option} is not an option of {command}", hint=hint)


def _unknown_command(error: CycloptsError, command: str) -> InvalidConfig:
    words = error.unused_tokens or [""]
    names = [] if error.app is None else list(_commands(error.app))
    parent = error.app.name[0] if error.app is not None and error.app.name else ""
    if parent not in ("", "seatrial") and not command.endswith(f" {parent}"):
        command = f"{command} {parent}"
    hint = hint_for_command(words) or _nearest(words[0], names) or f"it has: {', '.join(names)}"
    return InvalidConfig(f"{words[0]!r} is not a command of {command}", hint=hint)


def _missing(
    error: MissingArgumentError, words: tuple[str, ...], command: str, page: str
) -> InvalidConfig:
    name = error.keyword or _shown_name(error.argument)
    if error.keyword is not None:  # the option is there, its value is not
        wanted, _ = (1, False) if error.argument is None else error.argument.token_count()
        if wanted > 1:
            given = len(error.tokens_so_far)
            return InvalidConfig(f"{name} needs {wanted} values, not {given}", hint=page)
        if (word := _after(name, sys.argv[1:])) and word.startswith("-"):
            return InvalidConfig(
                f"{name} needs a value, and {word!r} reads as an option",
                hint=f"if that is the value, write {name}={word}",
            )
        return InvalidConfig(f"{name} needs a value", hint=page)
    # An option of another tool is likelier the mistake than the one that is left out for it.
    for unused in error.unused_tokens or ():
        if hint := hint_for_option(words, unused.partition("=")[0]):
            option = unused.partition("=")[0]
            return InvalidConfig(f"{option} is not an option of {command}", hint=hint)
    return InvalidConfig(f"{command} needs {name}", hint=page)


def _after(name: str, words: Sequence[str]) -> str:
    """The word after an option; empty where there is none."""
    return next((after for word, after in itertools.pairwise(words) if word == name), "")


def _shown_name(argument: Argument | None) -> str:
    """An argument as the help page shows it: IMAGE, or --images."""
    if argument is None:
        return "the command"
    positional = argument.field_info.is_positional
    return argument.name.lstrip("-").upper() if positional else argument.name


def _values(kind: type | None) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    name = getattr(kind, "__name__", str(kind))
    return SHOWN_TYPES.get(name, name)


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def _commands(app: App) -> Iterable[str]:
    return (name for name in app if not name.startswith("-"))


def in_better_words(error: SeatrialError, words: Sequence[str]) -> SeatrialError:
    """The error of a command line; one in Ultralytics' syntax gets the whole command as its hint.

    Args:
        error: What the command said.
        words: The command line without ``seatrial``.
    """
    from cyclopts import CycloptsError

    from seatrial.cli.ultralytics_syntax import MODES, in_our_words

    if not isinstance(error, InvalidInput | InvalidArtifact):
        return error
    foreign = [word for word in words if "=" in word or word in MODES]
    if not isinstance(error.__cause__, CycloptsError) and not any(
        word in error.message for word in foreign
    ):
        return error
    from seatrial.cli.console import store
    from seatrial.models.sources.table import SOURCES

    return in_our_words(words, store().has, tuple(SOURCES)) or error


def is_model(word: str) -> bool:
    """Whether a word is the name of a model, in the store or known, or a model file."""
    path = Path(word)
    if path.exists():
        return path.is_file() and path.suffix in MODEL_FILES
    if path.suffix in MODEL_FILES:
        return True
    from seatrial.cli.console import store
    from seatrial.models.sources.table import SOURCES  # the hubs' clients take a while

    return word in SOURCES or store().has(word)


def _model_in(words: Sequence[str]) -> str:
    """The first word that names a model, options and their values left out; empty without one."""
    pairs = itertools.pairwise(words)
    alone = (word for before, word in pairs if not before.startswith("-") and word[:1] != "-")
    return next(filter(is_model, alone), "")


def with_model(words: Sequence[str], model: str, *, needs: str = "") -> str:
    """The command line with a model named by ``--model``, not by a word alone.

    Args:
        words: The command line without ``seatrial``.
        model: The word.
        needs: What the command needs in the model's place; empty where it has that.
    """
    rest = [word for word in words if word != model]
    if any(word.partition("=")[0] == "--model" for word in words):
        return f"leave {model} out: --model names the model"
    if needs:
        rest.insert(1, needs)
    return shlex.join(["seatrial", *rest, "--model", model])
