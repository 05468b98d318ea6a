"""`tallyman health`: whether the parts work, for people, probes and supervisors."""

from enum import StrEnum
from typing import Annotated

import typer

from worker.addresses import resolve
from worker.app import configured
from worker.command.exit_codes import ExitCode
from worker.command.output import JsonOption, say, show_json
from worker.health import checks
from worker.settings import load


class Part(StrEnum):
    """What can be asked for."""

    ALL = "all"
    DB = "db"
    BROKER = "broker"
    WORKER = "worker"
    RELAY = "relay"
    BEAT = "beat"
    FLOWER = "flower"


OPTIONAL = frozenset({Part.FLOWER})
"""What is asked for by its name alone: a system does its work without."""


def health(
    part: Annotated[Part, typer.Argument(help="The part to ask for.")] = Part.ALL,
    *,
    json: JsonOption = False,
) -> None:
    """Tell whether the parts of the system on this machine do their work; Flower if it is named.

    Exits with 0 if all that was asked for is well, else with 1.
    """
    settings = load()
    known = checks(configured(), settings, resolve(settings))
    found = [
        check()
        for name, check in known.items()
        if part == name or (part is Part.ALL and name not in OPTIONAL)
    ]
    if json:
        show_json(found)
    else:
        for one in found:
            say(f"{one.part:<7} {'well' if one.is_well else 'UNWELL'}: {one.detail}")
    if not all(one.is_well for one in found):
        raise typer.Exit(ExitCode.REFUSED)
