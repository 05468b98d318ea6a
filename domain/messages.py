"""Commands and events: the two kinds of message that the system speaks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A value that crosses the process's edge as JSON."""

    # Read by Pydantic (in `adapters.payloads`) when it builds the validator and the JSON Schema.
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Message):
    """What an upstream system asks for; each subclass is one job kind."""

    kind: ClassVar[str]
    """Name of the job kind and of its Celery task, such as `allocation.allocate_order`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Message, ABC):
    """What has happened; written to the outbox in the transaction that made it true."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    @abstractmethod
    def aggregate(self) -> str:
        """Key within which events keep their order, such as `order:536365`."""
