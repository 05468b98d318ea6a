"""What has happened to imports; written to the outbox."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.messages import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportEnded(Event):
    """A run is over; `state` is finished, refused or cancelled."""

    run_id: str
    file: str
    source: str | None
    state: str
    rows: int
    ends: Mapping[str, int]
    """Rows by what became of them."""

    @property
    def aggregate(self) -> str:
        return f"import:{self.run_id}"
