"""What a handler returns for each command: done, refused by the business, or not yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.errors import DomainError

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The command took effect, or had already."""

    result: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The business said no; `error` reaches the producer."""

    error: DomainError
    forget_payload: bool = False
    """Scrub the job's payload in the ledger: it holds personal data that may not stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """It is not time yet: the job stays as it is, and no attempt counts."""


Outcome = Succeeded | Rejected
Answer = Outcome | Postponed
