"""Batches: units of one product that come together."""

from dataclasses import dataclass
from datetime import date


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """Units of one product that came, or will come, together."""

    reference: str
    sku: str
    purchased: int
    eta: date | None = None
    allocated: int = 0
    fingerprint: str = ""
    """Digest of the command that created it."""

    @property
    def available(self) -> int:
        return self.purchased - self.allocated

    def can_allocate(self, quantity: int) -> bool:
        return quantity <= self.purchased - self.allocated
