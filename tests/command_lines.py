"""Command lines of `tallyman`: found in documents, and held against what the command takes."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from markdown_it import MarkdownIt
from typer._click.exceptions import (
    BadOptionUsage,
    BadParameter,
    MissingParameter,
    NoArgsIsHelpError,
    UsageError,
)
from typer.core import TyperGroup

from worker.command.main import app

PROMPT = re.compile(r"^\$ ", re.MULTILINE)
ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)
PLACEHOLDER = re.compile(r"…|\[.*\]|[A-Z]{1,8}(=[A-Z]+)?(,…)?")
SHELLS = ("", "console", "sh", "bash")
"""Languages of blocks that hold command lines; one without a language may."""
SEPARATORS = frozenset("();<>|&")
LAUNCHERS = (
    ("sudo", "-u", "tallyman"),
    ("docker", "compose", "exec", "worker"),
    ("kubectl", "exec", "deploy/tallyman-worker", "--"),
)
"""What may stand before it, to run it somewhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command line as it is written somewhere."""

    place: str
    words: tuple[str, ...]
    """What follows `tallyman`."""
    is_mentioned: bool = False
    """It stands in a sentence, and may leave out what it needs."""


def mentioned(document: Path) -> Iterator[CommandLine]:
    """Find the command lines of a document in Markdown: in its blocks, and in its sentences."""
    for token in MarkdownIt("commonmark").enable("table").parse(document.read_text("utf-8")):
        place = f"{document.name}:{token.map[0] + 1 if token.map else '?'}"
        if token.type in ("fence", "code_block") and token.info in SHELLS:
            for words in _commands(_typed(token.content)):
                yield CommandLine(place=place, words=words)
        for child in token.children or ():
            if child.type == "code_inline" and child.content.startswith("tallyman "):
                for words in _commands(child.content):
                    yield CommandLine(place=place, words=words, is_mentioned=True)


def _typed(block: str) -> str:
    """Return what is typed of a block: its lines with a prompt, or all where none has one."""
    lines = block.replace("\\\n", " ")
    if not PROMPT.search(lines):
        return lines
    return "\n".join(line[2:] for line in lines.splitlines() if line.startswith("$ "))


def _commands(script: str) -> Iterator[tuple[str, ...]]:
    for line in script.splitlines():
        if re.search(r"\btallyman ", line):
            yield from filter(None, map(_after_the_name, _parts(line)))


def _parts(line: str) -> Iterator[list[str]]:
    """Split a line of a shell into its commands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    part: list[str] = []
    try:
        words = list(lexer)
    except ValueError:
        # An apostrophe: it is output, in words.
        return
    for word in words:
        if set(word) <= SEPARATORS:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _after_the_name(part: Sequence[str]) -> tuple[str, ...] | None:
    words = list(part)
    while words and ASSIGNMENT.fullmatch(words[0]):
        words.pop(0)
    for launcher in LAUNCHERS:
        if tuple(words[: len(launcher)]) == launcher:
            words = words[len(launcher) :]
    if not words or words[0].rpartition("/")[2] != "tallyman":
        return None
    return tuple(words[1:])


def objection(line: CommandLine) -> str | None:
    """Say why the command does not take this line, without running it; None where it does."""
    try:
        _parse(line.words)
    except (BadOptionUsage, MissingParameter, NoArgsIsHelpError) as error:
        return None if line.is_mentioned else error.format_message()
    except BadParameter as error:
        leaves_open = line.is_mentioned and any(map(PLACEHOLDER.fullmatch, line.words))
        return None if leaves_open else error.format_message()
    except UsageError as error:
        return error.format_message()
    return None


def _parse(words: Sequence[str]) -> None:
    command = typer.main.get_command(app)
    context = None
    rest = list(words)
    name: str | None = "tallyman"
    while True:
        # `--help` and `--version` would print and end.
        rest = [word for word in rest if word not in ("--help", "--version")]
        with command.make_context(name, rest, parent=context) as context:
            remaining = [*context._protected_args, *context.args]
            if not isinstance(command, TyperGroup) or not remaining:
                return
            name, found, rest = command.resolve_command(context, remaining)
            assert found is not None
            command = found
