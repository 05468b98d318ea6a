"""Commands by which the system keeps its own house."""

from dataclasses import dataclass
from typing import ClassVar

from domain.errors import InvalidPayload
from domain.messages import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneLedger(Command):
    """Delete what finished long ago: jobs, their failures, published events, parked messages."""

    kind: ClassVar[str] = "maintenance.prune_ledger"

    older_than_days: int
    """Days since it finished, 1 or more. Dead jobs stay: an operator has to see them."""
    at_most: int = 10_000
    """Rows of each sort to delete in one job, so that locks stay short; another job goes on."""

    def __post_init__(self) -> None:
        if self.older_than_days < 1 or self.at_most < 1:
            raise InvalidPayload(
                "older_than_days and at_most must be at least 1,"
                f" got {self.older_than_days} and {self.at_most}"
            )
