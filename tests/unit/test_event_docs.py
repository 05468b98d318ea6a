"""The table of events in the guide, which the classes of the events write."""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import domain
from domain.messages import Event

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "consume-events.md"
HEAD = "| event | aggregate | fields of the payload | what has happened |\n|---|---|---|---|\n"


def events() -> list[type[Event]]:
    """Return all events, part by part, as they stand in their modules."""
    return [event for module in modules() for event in leaves(classes(module))]


def leaves(found: Sequence[type[Event]]) -> list[type[Event]]:
    """Return those that are no base of another."""
    return [
        event
        for event in found
        if not any(other is not event and issubclass(other, event) for other in found)
    ]


def modules() -> list[ModuleType]:
    """Return the modules of events, of every part of the domain that has one."""
    names = (name for _, name, _ in pkgutil.walk_packages(domain.__path__, "domain."))
    return [import_module(name) for name in names if name.endswith(".events")]


def classes(module: ModuleType) -> list[type[Event]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Event) and each.__module__ == module.__name__
    ]


def row(event: type[Event]) -> str:
    types = get_type_hints(event)
    told = [f"`{field.name}`: {shape(types[field.name])}" for field in fields(event)]
    meaning = " ".join((event.__doc__ or "").split())
    return f"| `{event.__name__}` | `{aggregate(event)}` | {', '.join(told)} | {meaning} |\n"


def aggregate(event: type[Event]) -> str:
    """Return the key of an event whose fields are filled with their own names."""
    example = object.__new__(event)
    for field in fields(event):
        object.__setattr__(example, field.name, f"<{field.name}>")
    return example.aggregate


def shape(kind: Any) -> str:  # noqa: ANN401  an annotation can be anything
    """Say what JSON a field is."""
    if get_origin(kind) is UnionType:
        return " or ".join(shape(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {shape(get_args(kind)[0])}"
    if get_origin(kind) is Mapping:
        return f"object of {shape(get_args(kind)[1])}"
    if is_dataclass(kind):
        inner = get_type_hints(kind)
        told = ", ".join(f"`{field.name}`: {shape(inner[field.name])}" for field in fields(kind))
        return f"{{{told}}}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{each.value}`" for each in kind)
    return {str: "text", int: "integer", bool: "boolean", date: "date", NoneType: "null"}[kind]


def table() -> str:
    return HEAD + "".join(map(row, events()))


class TestTheGuideForConsumers:
    def test_knows_every_event_with_all_its_fields(self) -> None:
        text = GUIDE.read_text(encoding="utf-8")
        written = HEAD + text.partition(HEAD)[2].partition("\n\n")[0]
        if written.rstrip() != table().rstrip():
            pytest.fail(f"{GUIDE.name} should say:\n\n{table()}")

    def test_sees_the_events_of_every_part(self) -> None:
        parts = {event.__module__ for event in events()}
        assert parts >= {"domain.allocation.events", "domain.users.events"}
